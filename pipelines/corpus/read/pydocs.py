"""Docstrings of Python packages as documents: the format `pydocs`."""

import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import (
    BuiltinImporter,
    ExtensionFileLoader,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path

from pipelines.corpus.read.docstrings import source_docstrings
from pipelines.corpus.read.live_docstrings import live_docstrings
from pipelines.corpus.read.rows import Document, Reject
from pipelines.errors import InputMissing

STANDARD_LIBRARY = "stdlib"

_LEFT_OUT = frozenset({"test", "idlelib", "lib2to3", "tkinter", "_tkinter", "turtledemo"})
_TEST_FOLDERS = frozenset({"test", "tests"})


@dataclass(frozen=True)
class Module:
    """A module to read: its dotted name and its source file.

    `file` is None for a module of the standard library that has no Python source.
    """

    name: str
    file: str | None


def modules(paths: Sequence[str]) -> list[Module]:
    """List the modules that the entries name, sorted by name, each once; nothing is imported.

    Args:
        paths: "stdlib" for the standard library, else the import name of an installed package or
            module, such as "numpy" or "xml.dom".

    Raises:
        InputMissing: an entry names nothing that is installed, or nothing that has Python source.
    """
    found: dict[str, Module] = {}
    for entry in paths:
        listed = _standard_library() if entry == STANDARD_LIBRARY else _named(entry)
        for module in listed:
            found.setdefault(module.name, module)
    return [found[name] for name in sorted(found)]


def read_module(module: Module) -> Iterator[Document | Reject]:
    """Yield the docstrings of a module, of its classes, and of its functions and methods.

    The id is the dotted name, the title the name with its signature. Of a name that is defined
    twice the first definition with a docstring counts. Positions count from 0 within the module.
    A file that cannot be read or parsed is one reject, "unreadable_file".
    """
    try:
        found = list(
            live_docstrings(module.name)
            if module.file is None
            else source_docstrings(module.name, module.file)
        )
    except (OSError, SyntaxError, ValueError, RecursionError, ImportError) as error:
        where = module.file or module.name
        yield Reject(0, None, "unreadable_file", f"{where} cannot be read as Python: {error}")
        return
    seen: set[str] = set()
    for name, title, text, kind in found:
        if not text or not text.strip() or name in seen:
            continue
        metadata = {"module": module.name.partition(".")[0], "kind": kind}
        yield Document(len(seen), name, title, text, metadata)
        seen.add(name)


def _standard_library() -> Iterator[Module]:
    for name in sorted(sys.stdlib_module_names - _LEFT_OUT):
        spec = _find(name)
        if spec is not None:  # None: it does not exist on this platform
            yield from _modules_of(name, spec)


def _named(entry: str) -> list[Module]:
    parts = entry.split(".")
    spec = _find(parts[0]) if all(part.isidentifier() for part in parts) else None
    if spec is None:
        raise InputMissing(f"No installed package or module is named {entry!r}.")
    within = f"{entry}."
    # The parts below the first are found in the folders: find_spec would import their parents.
    found = [
        module
        for module in _modules_of(parts[0], spec)
        if module.name == entry or module.name.startswith(within)
    ]
    if not found:
        raise InputMissing(f"{entry!r} names no installed module that has Python source.")
    return found


def _find(name: str) -> ModuleSpec | None:
    """Find a top-level name without importing it; nothing shadows the standard library."""
    if name in sys.stdlib_module_names:
        return BuiltinImporter.find_spec(name) or PathFinder.find_spec(name, _library_folders())
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module that is loaded without a specification, such as __main__
        return None


def _library_folders() -> list[str]:
    binaries = sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})
    return [
        sysconfig.get_path("stdlib"),
        str(Path(binaries) / "lib-dynload"),
        str(Path(sys.base_exec_prefix) / "DLLs"),
    ]


def _modules_of(name: str, spec: ModuleSpec) -> Iterator[Module]:
    standard = name in sys.stdlib_module_names
    if spec.submodule_search_locations is not None:
        skipped = _TEST_FOLDERS if standard else frozenset()
        for folder in spec.submodule_search_locations:
            yield from _modules_in(Path(folder), name, skipped)
    elif isinstance(spec.loader, SourceFileLoader):
        yield Module(name, spec.origin)
    elif standard and (spec.origin == "built-in" or isinstance(spec.loader, ExtensionFileLoader)):
        yield Module(name, None)


def _modules_in(folder: Path, name: str, skipped: frozenset[str]) -> Iterator[Module]:
    """Yield a package's modules; folders without __init__.py count within one that has none."""
    if not folder.is_dir():
        return
    namespace = not (folder / "__init__.py").is_file()
    for path in sorted(folder.iterdir()):
        package = folder / path.stem / "__init__.py"
        if path.name == "__init__.py":
            yield Module(name, str(path))
        elif path.suffix == ".py" and path.stem.isidentifier() and not package.is_file():
            yield Module(f"{name}.{path.stem}", str(path))
        elif (
            path.name.isidentifier()
            and path.name not in skipped
            and path.name != "__pycache__"
            and (package.is_file() or (namespace and path.is_dir()))
        ):
            yield from _modules_in(path, f"{name}.{path.name}", skipped)
