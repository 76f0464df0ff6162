"""Docstrings of one module: parsed from its source, or taken from live objects.

Source is parsed and never imported. `live_docstrings` imports its module: it is for modules of the
standard library that have no source (`math`, `builtins`, ...), whose import does nothing but load.
"""

import ast
import builtins
import importlib
import inspect
import re
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# The title precedes every chunk of a docstring: a long signature would take the chunk's room.
_SIGNATURE_CHARACTERS = 100
_SELF = re.compile(r"^\$\w+(, /)?(, )?")
_PROPERTIES = frozenset({"property", "cached_property", "abstractproperty"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Docstring(NamedTuple):
    """A definition and its docstring, cleaned of indentation.

    `title` is the name with its arguments as a caller sees them: without annotations, without
    `self`, cut when long. `kind` is "module", "class", "function" or "method".
    """

    name: str
    title: str
    text: str | None
    kind: str


def source_docstrings(name: str, file: str) -> Iterator[Docstring]:
    """Yield the definitions of a module's source in their order, nested in classes included.

    Definitions under `if`, `try` and `with` count; those inside functions do not. A name that is
    defined twice comes twice.

    Raises:
        OSError: the file cannot be read.
        SyntaxError, ValueError, RecursionError: it cannot be parsed.
    """
    source = Path(file).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parser's, about the code that is read
        tree = ast.parse(source, file)  # bytes: the coding declaration is honoured
    yield Docstring(name, name, ast.get_docstring(tree), "module")
    yield from _definitions(tree, name, in_class=False)


def live_docstrings(name: str) -> Iterator[Docstring]:
    """Import a module and yield its public functions, classes, and these classes' own members.

    Raises:
        ImportError: the module cannot be loaded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # modules that are to be removed say so when imported
        module = importlib.import_module(name)
    yield Docstring(name, name, _live_text(module), "module")
    for attribute, value in sorted(vars(module).items()):
        if attribute.startswith("_") or not _belongs(attribute, value, module):
            continue
        if not (inspect.isclass(value) or inspect.isbuiltin(value)):
            # A hook such as sys.excepthook that the process replaced: the original stays here.
            value = vars(module).get(f"__{attribute}__")
        full_name = f"{name}.{attribute}"
        title = full_name.removeprefix("builtins.")
        if inspect.isclass(value):
            yield Docstring(full_name, title + _live_arguments(value), _live_text(value), "class")
            yield from _members(full_name, title, value)
        elif inspect.isbuiltin(value):
            yield Docstring(
                full_name, title + _live_arguments(value), _live_text(value), "function"
            )


def _definitions(node: ast.AST, within: str, *, in_class: bool) -> Iterator[Docstring]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            name = f"{within}.{child.name}"
            yield Docstring(name, name + _class_arguments(child), ast.get_docstring(child), "class")
            yield from _definitions(child, name, in_class=True)
        elif isinstance(child, _Function):
            name = f"{within}.{child.name}"
            title = name + _function_arguments(child, in_class=in_class)
            kind = "method" if in_class else "function"
            yield Docstring(name, title, ast.get_docstring(child), kind)
        elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _definitions(child, within, in_class=in_class)


def _class_arguments(node: ast.ClassDef) -> str:
    for child in node.body:
        if isinstance(child, _Function) and child.name == "__init__":
            return _function_arguments(child, in_class=True)
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    return f"({_cut(bases)})" if bases else ""


def _function_arguments(node: _Function, *, in_class: bool) -> str:
    """Write the arguments as a caller sees them: no annotations, no self, none for a property."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    if decorators & _PROPERTIES:
        return ""
    given = node.args
    before_slash, positional = map(_bare, given.posonlyargs), map(_bare, given.args)
    if in_class and "staticmethod" not in decorators:
        next(before_slash if given.posonlyargs else positional, None)
    shown = ast.arguments(
        posonlyargs=list(before_slash),
        args=list(positional),
        vararg=given.vararg and _bare(given.vararg),
        kwonlyargs=[_bare(argument) for argument in given.kwonlyargs],
        kw_defaults=given.kw_defaults,
        kwarg=given.kwarg and _bare(given.kwarg),
        defaults=[],
    )
    count = len(shown.posonlyargs) + len(shown.args)  # fewer than defaults if self has one
    shown.defaults = given.defaults[max(0, len(given.defaults) - count) :]
    return f"({_cut(ast.unparse(shown))})"


def _bare(argument: ast.arg) -> ast.arg:
    return ast.arg(argument.arg)


def _cut(arguments: str) -> str:
    """Cut a list of arguments between two of them, when it is long."""
    if len(arguments) <= _SIGNATURE_CHARACTERS:
        return arguments
    depth = end = 0
    for place, character in enumerate(arguments[:_SIGNATURE_CHARACTERS]):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            end = place
    return f"{arguments[:end]}, ..." if end else "..."


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
    return f"({_cut(_SELF.sub('', text[1:-1]))})" if isinstance(text, str) else ""
