"""Docstrings of one module, parsed from its source; nothing is imported."""

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

from pipelines.corpus.read.live_docstrings import Docstring, cut_arguments

_PROPERTIES = frozenset({"property", "cached_property", "abstractproperty"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


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
    return f"({cut_arguments(bases)})" if bases else ""


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
    return f"({cut_arguments(ast.unparse(shown))})"


def _bare(argument: ast.arg) -> ast.arg:
    return ast.arg(argument.arg)
