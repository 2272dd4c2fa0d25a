"""The size walls: nothing is longer than a reader can hold.

An exception is one line with its reason, and an exception that nothing needs any more is a failure,
so the walls only ever get tighter.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

MODULE_LINES = 400
CLASS_LINES = 200
FUNCTION_LINES = 40
PARAMETERS = 6

# "kind name" to (what it may be instead, and why).
EXCEPTIONS: Mapping[str, tuple[int, str]] = {
    "parameters deploy.api:APIHandler.__init__": (23, "LangServe's users pass each by its name"),
    "parameters deploy.routes:add_routes": (26, "LangServe's users pass each by its name"),
    "parameters app.client:RemoteRunnable.__init__": (13, "LangServe's users pass each of them"),
    "parameters compat_page:serve_playground": (9, "LangServe's users pass each of them"),
    "parameters cli:serve_app": (18, "each flag of a command is a parameter of its function"),
    "parameters cli:serve_models": (17, "each flag of a command is a parameter of its function"),
}

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Size: TypeAlias = tuple[str, int, int]  # "kind name", what it is, what it may be


def test_nothing_is_over_its_wall(modules: Mapping[str, ast.Module], root: Path) -> None:
    over = {
        name: size
        for name, size, wall in _sizes(modules, root)
        if size > EXCEPTIONS.get(name, (wall, ""))[0]
    }
    assert not over


def test_every_exception_is_still_needed_and_has_a_reason(
    modules: Mapping[str, ast.Module], root: Path
) -> None:
    needed = {name for name, size, wall in _sizes(modules, root) if size > wall}
    assert set(EXCEPTIONS) <= needed
    assert all(reason for _, reason in EXCEPTIONS.values())


def test_a_docstring_and_a_signature_do_not_count() -> None:
    source = 'def f(\n    a: int,\n) -> int:\n    """One.\n\n    Two.\n    """\n    return a'
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert _body_lines(function) == 1


def test_a_nested_function_counts_in_its_outer_one_and_has_a_name_of_its_own() -> None:
    source = "class A:\n    def f(self):\n        def g():\n            return 1\n        return g"
    sizes = {name: size for name, size, _ in _part_sizes("room", ast.parse(source))}
    assert sizes["function room:A.f"] == 3
    assert sizes["function room:A.f.g"] == 1


def test_self_is_no_parameter() -> None:
    function = ast.parse("class A:\n    def f(self, a, *args, b, **kwargs): ...")
    sizes = {name: size for name, size, _ in _part_sizes("room", function)}
    assert sizes["parameters room:A.f"] == 4


def _sizes(modules: Mapping[str, ast.Module], root: Path) -> Iterator[Size]:
    for path in sorted((root / "src").rglob("*.py")):
        name = f"module {path.relative_to(root / 'src').as_posix()}"
        yield name, len(path.read_text(encoding="utf-8").splitlines()), MODULE_LINES
    for name, tree in modules.items():
        yield from _part_sizes(name, tree)


def _part_sizes(scope: str, node: ast.AST, separator: str = ":") -> Iterator[Size]:
    """Yield the sizes of every class and function below `node`, which is called `scope`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            name = f"{scope}{separator}{child.name}"
            yield f"class {name}", _lines(child), CLASS_LINES
            yield from _part_sizes(name, child, ".")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{scope}{separator}{child.name}"
            yield f"function {name}", _body_lines(child), FUNCTION_LINES
            yield f"parameters {name}", _n_parameters(child), PARAMETERS
            yield from _part_sizes(name, child, ".")
        else:
            yield from _part_sizes(scope, child, separator)


def _lines(node: ast.ClassDef | Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _body_lines(function: Function) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    assert function.end_lineno is not None
    return function.end_lineno - body[0].lineno + 1


def _n_parameters(function: Function) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    gathered = [arguments.vararg, arguments.kwarg]
    return sum(
        argument.arg not in {"self", "cls"} for argument in [*named, *filter(None, gathered)]
    )
