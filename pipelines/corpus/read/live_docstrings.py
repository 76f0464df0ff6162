"""Docstrings of a module that has no Python source, taken from its live objects.

For modules of the standard library (`math`, `builtins`, ...), whose import does nothing but load.
They are loaded by an interpreter of their own, which runs this file: in this process any library
may have put another `print` or `sys.excepthook` in place, as Ray does.
"""

import builtins
import importlib
import inspect
import json
import re
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from typing import NamedTuple

# The title precedes every chunk of a docstring: a long signature would take the chunk's room.
_SIGNATURE_CHARACTERS = 100
_SELF = re.compile(r"^\$\w+(, /)?(, )?")
_LOAD_SECONDS = 120


class Docstring(NamedTuple):
    """A definition and its docstring, cleaned of indentation.

    `title` is the name with its arguments as a caller sees them: without annotations, without
    `self`, cut when long. `kind` is "module", "class", "function" or "method".
    """

    name: str
    title: str
    text: str | None
    kind: str


def live_docstrings(name: str) -> Iterator[Docstring]:
    """Yield a module's public functions, classes, and these classes' own members.

    Raises:
        ImportError: the module cannot be loaded.
    """
    command = [sys.executable, "-I", "-S", __file__, name]
    try:
        run = subprocess.run(  # noqa: S603 - this file, by this interpreter
            command, capture_output=True, check=True, timeout=_LOAD_SECONDS, encoding="utf-8"
        )
    except subprocess.CalledProcessError as error:
        raise ImportError((error.stderr.strip().splitlines() or [str(error)])[-1]) from None
    except subprocess.TimeoutExpired as error:
        raise ImportError(str(error)) from None
    for row in json.loads(run.stdout):
        yield Docstring(*row)


def cut_arguments(arguments: str) -> str:
    """Cut a list of arguments between two of them, when it is long."""
    if len(arguments) <= _SIGNATURE_CHARACTERS:
        return arguments
    depth = end = 0
    for place, character in enumerate(arguments[:_SIGNATURE_CHARACTERS]):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            end = place
    return f"{arguments[:end]}, ..." if end else "..."


def _loaded(name: str) -> Iterator[Docstring]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # modules that are to be removed say so when imported
        module = importlib.import_module(name)
    yield Docstring(name, name, _live_text(module), "module")
    for attribute, value in sorted(vars(module).items()):
        if attribute.startswith("_") or not _belongs(attribute, value, module):
            continue
        full_name = f"{name}.{attribute}"
        title = full_name.removeprefix("builtins.")
        if inspect.isclass(value):
            yield Docstring(full_name, title + _live_arguments(value), _live_text(value), "class")
            yield from _members(full_name, title, value)
        elif inspect.isbuiltin(value):
            yield Docstring(
                full_name, title + _live_arguments(value), _live_text(value), "function"
            )


def _belongs(attribute: str, value: object, module: types.ModuleType) -> bool:
    """Tell a module's own objects from another name of one, and from what it takes elsewhere."""
    own_name = getattr(value, "__name__", attribute)
    if own_name != attribute and vars(module).get(own_name) is value:
        return False
    return module is builtins or vars(builtins).get(own_name) is not value


def _members(class_name: str, class_title: str, cls: type) -> Iterator[Docstring]:
    for attribute, value in sorted(vars(cls).items()):
        if attribute.startswith("_"):
            continue
        title = f"{class_title}.{attribute}"
        value = getattr(value, "__func__", value)  # of a static method
        if inspect.isroutine(value):
            title += _live_arguments(value)
        elif not inspect.isdatadescriptor(value):
            continue
        yield Docstring(f"{class_name}.{attribute}", title, _live_text(value), "method")


def _live_text(value: object) -> str | None:
    text = getattr(value, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else None


def _live_arguments(value: object) -> str:
    """Take the arguments as C code states them; inspect.signature would evaluate the defaults."""
    text = getattr(value, "__text_signature__", None)
    return f"({cut_arguments(_SELF.sub('', text[1:-1]))})" if isinstance(text, str) else ""


if __name__ == "__main__":
    json.dump(list(_loaded(sys.argv[1])), sys.stdout)
