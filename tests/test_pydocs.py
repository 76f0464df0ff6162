import builtins
import sys
import warnings
from collections import Counter

import pytest

from pipelines.corpus.read.pydocs import Module, modules, read_module
from pipelines.corpus.read.rows import Document, Reject
from pipelines.errors import InputMissing

SHAPES = '''
"""Shapes and their areas."""
import functools
from typing import overload


def area(width: float, height: float = 1.0, *, unit: str = "m") -> float:
    """Return the area of a rectangle.

    In square units.
        Indented detail.
    """

    def inner():
        """Not a document: it is nested in a function."""


async def fetch(url, /, *rest, retries=3, **options):
    """Fetch a drawing."""


def _private():
    """Underscores count."""


def silent(a):
    return a


def blank():
    """   """


@overload
def scale(shape: int) -> int: ...


@overload
def scale(shape: str) -> str: ...


def scale(shape):
    """Scale a shape."""


def twice():
    pass


def twice(first):
    """The first that says something."""


def twice(second):
    """Too late."""


if True:

    def guarded():
        """Defined under a condition."""


try:
    import numpy_that_is_missing
except ImportError:

    class Fallback:
        """Defined when the import fails."""

        with open("x"):

            def method(self):
                """A method under with."""


class Shape(list, functools.partial):
    """A class without a constructor."""

    @property
    def width(self):
        """The width in metres."""

    @width.setter
    def width(self, value):
        """Too late."""

    @staticmethod
    def unit(name="m"):
        """A static method."""

    @classmethod
    def square(cls, side):
        """A class method."""

    @functools.wraps(area)
    def grow(self=None, by=2):
        """A decorated method."""

    class Corner:
        """A nested class."""

        def __init__(self, angle: float = 90.0):
            """Make a corner."""


class Plain:
    def __init__(self, *args):
        pass
'''


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def read_all(*paths):
    return [row for module in modules(paths) for row in read_module(module)]


def by_id(rows):
    return {row.doc_id: row for row in rows}


def test_documents_of_a_source_module(site):
    site({"td_shapes.py": SHAPES})
    rows = read_all("td_shapes")
    assert [(row.doc_id, row.title, row.text, row.metadata["kind"]) for row in rows] == [
        ("td_shapes", "td_shapes", "Shapes and their areas.", "module"),
        (
            "td_shapes.area",
            "td_shapes.area(width, height=1.0, *, unit='m')",
            "Return the area of a rectangle.\n\nIn square units.\n    Indented detail.",
            "function",
        ),
        (
            "td_shapes.fetch",
            "td_shapes.fetch(url, /, *rest, retries=3, **options)",
            "Fetch a drawing.",
            "function",
        ),
        ("td_shapes._private", "td_shapes._private()", "Underscores count.", "function"),
        ("td_shapes.scale", "td_shapes.scale(shape)", "Scale a shape.", "function"),
        (
            "td_shapes.twice",
            "td_shapes.twice(first)",
            "The first that says something.",
            "function",
        ),
        ("td_shapes.guarded", "td_shapes.guarded()", "Defined under a condition.", "function"),
        ("td_shapes.Fallback", "td_shapes.Fallback", "Defined when the import fails.", "class"),
        (
            "td_shapes.Fallback.method",
            "td_shapes.Fallback.method()",
            "A method under with.",
            "method",
        ),
        (
            "td_shapes.Shape",
            "td_shapes.Shape(list, functools.partial)",
            "A class without a constructor.",
            "class",
        ),
        ("td_shapes.Shape.width", "td_shapes.Shape.width", "The width in metres.", "method"),
        ("td_shapes.Shape.unit", "td_shapes.Shape.unit(name='m')", "A static method.", "method"),
        ("td_shapes.Shape.square", "td_shapes.Shape.square(side)", "A class method.", "method"),
        ("td_shapes.Shape.grow", "td_shapes.Shape.grow(by=2)", "A decorated method.", "method"),
        (
            "td_shapes.Shape.Corner",
            "td_shapes.Shape.Corner(angle=90.0)",
            "A nested class.",
            "class",
        ),
        (
            "td_shapes.Shape.Corner.__init__",
            "td_shapes.Shape.Corner.__init__(angle=90.0)",
            "Make a corner.",
            "method",
        ),
    ]
    assert [row.position for row in rows] == list(range(len(rows)))
    assert {row.metadata["module"] for row in rows} == {"td_shapes"}


def test_long_signature_is_cut_between_two_arguments(site):
    arguments = ", ".join(f"argument_{number}=(1, 2)" for number in range(9))
    site({"td_long.py": f'def f({arguments}):\n    """Text."""\n'})
    kept = ", ".join(f"argument_{number}=(1, 2)" for number in range(5))  # 98 characters
    assert read_all("td_long")[0].title == f"td_long.f({kept}, ...)"


def test_modules_of_a_package(site):
    site(
        {
            "td_pack/__init__.py": "",
            "td_pack/b.py": "",
            "td_pack/a.py": "",
            "td_pack/a/__init__.py": "",
            "td_pack/a/deep.py": "",
            "td_pack/tests/__init__.py": "",
            "td_pack/data/template.py": "",
            "td_pack/not-a-name.py": "",
            "td_space/part/__init__.py": "",
        }
    )
    listed = modules(["td_pack", "td_space", "td_pack.a"])
    assert [module.name for module in listed] == [
        "td_pack",
        "td_pack.a",
        "td_pack.a.deep",
        "td_pack.b",
        "td_pack.tests",
        "td_space.part",
    ]
    assert listed[1].file.endswith("__init__.py")
    assert [module.name for module in modules(["td_pack.a"])] == ["td_pack.a", "td_pack.a.deep"]


def test_nothing_is_imported(site):
    site(
        {
            "td_bomb/__init__.py": '"""Do not import."""\nraise RuntimeError("imported")\n',
            "td_bomb/part.py": 'def f():\n    """Text."""\nraise RuntimeError("imported")\n',
        }
    )
    assert [row.doc_id for row in read_all("td_bomb.part", "td_bomb")] == [
        "td_bomb",
        "td_bomb.part.f",
    ]
    assert not [name for name in sys.modules if name.startswith("td_bomb")]


@pytest.mark.parametrize("name", ["td_nowhere", "json.nowhere", "../json", "", "json.", "os.path"])
def test_unknown_name(name):
    with pytest.raises(InputMissing, match=r"[Nn]o installed"):
        modules([name])


@pytest.mark.parametrize(
    "content", [b'"""Text."""\ndef f(:\n', b'"""caf\xe9"""\n', b'"""Text."""\n\x00', None]
)
def test_unreadable_file_is_one_reject(tmp_path, content):
    path = tmp_path / "broken.py"
    if content is not None:
        path.write_bytes(content)
    [row] = read_module(Module("broken", str(path)))
    assert isinstance(row, Reject)
    assert (row.position, row.doc_id, row.reason) == (0, None, "unreadable_file")
    assert "broken.py" in row.message


def test_coding_declaration_is_honoured(site):
    site({"td_latin.py": '# -*- coding: latin-1 -*-\n"""Café."""\n'.encode("latin-1")})
    assert [row.text for row in read_all("td_latin")] == ["Café."]


def test_parser_warnings_are_not_ours(site):
    site({"td_escape.py": '"""Text."""\nPATTERN = "\\d"\n'})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [row.text for row in read_all("td_escape")] == ["Text."]


def test_live_functions():
    rows = by_id(read_all("math"))
    assert rows["math.gcd"].title == "math.gcd(*integers)"
    assert rows["math.gcd"].text == "Greatest Common Divisor."
    assert rows["math.gcd"].metadata == {"module": "math", "kind": "function"}
    assert rows["math"].metadata["kind"] == "module"
    assert not [doc_id for doc_id in rows if "._" in doc_id]


def test_live_classes():
    rows = by_id(read_all("builtins"))
    assert rows["builtins.str"].metadata["kind"] == "class"
    assert rows["builtins.str.split"].title == "str.split(sep=None, maxsplit=-1)"
    assert rows["builtins.str.split"].metadata == {"module": "builtins", "kind": "method"}
    assert rows["builtins.dict.fromkeys"].title == "dict.fromkeys(iterable, value=None, /)"
    assert rows["builtins.str.maketrans"].text.startswith("Return a translation table")
    assert rows["builtins.int.real"].title == "int.real"
    assert "builtins.bool.bit_length" not in rows  # defined in int
    assert "builtins.IOError" not in rows  # another name of OSError
    assert "builtins.open" in rows


def test_live_module_does_not_hold_what_builtins_define():
    assert "_io.BlockingIOError" not in by_id(read_all("_io"))


def test_replaced_hook_is_read_as_it_was(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", lambda *error: None)
    rows = by_id(read_all("sys"))
    assert rows["sys.excepthook"].text.startswith("Handle an exception")


def test_replaced_builtin_is_read_as_it_was(monkeypatch):
    monkeypatch.setattr(builtins, "print", lambda *values: None)
    rows = by_id(read_module(Module("builtins", None)))
    assert rows["builtins.print"].text.startswith("Prints the values to a stream")


def test_live_module_that_cannot_be_loaded_is_one_reject():
    (reject,) = read_module(Module("no_such_module", None))
    assert reject.reason == "unreadable_file"
    assert "No module named 'no_such_module'" in reject.message


def test_entries_overlap():
    assert modules(["json", "stdlib", "math"]) == modules(["stdlib"])


def test_standard_library_modules():
    names = {module.name: module.file for module in modules(["stdlib"])}
    assert names["math"] is None
    assert names["sys"] is None
    assert names["os"].endswith("os.py")  # frozen, but its source is there
    assert names["importlib._bootstrap"].endswith("_bootstrap.py")
    assert not {"antigravity", "this", "xml.dom.minidom"} - set(names)
    absent = {"msvcrt", "winreg", "test", "tkinter", "idlelib", "turtledemo"}
    assert not absent & {name.partition(".")[0] for name in names}
    assert not [name for name in names if {"test", "tests"} & set(name.split(".")[:-1])]


def test_standard_library_documents(standard_library):
    assert not [row for _, row in standard_library if isinstance(row, Reject)]
    counts = Counter("source" if module.file else "live" for module, _ in standard_library)
    assert 6_200 <= counts["source"] <= 7_200
    assert 1_700 <= counts["live"] <= 2_600


def test_standard_library_ids_are_unique(standard_library):
    counts = Counter(row.doc_id for _, row in standard_library)
    assert [doc_id for doc_id, count in counts.items() if count > 1] == []


def test_standard_library_rows_are_complete(standard_library):
    for module, row in standard_library:
        assert isinstance(row, Document)
        assert row.doc_id == module.name or row.doc_id.startswith(f"{module.name}.")
        assert row.title
        assert row.text.strip()
