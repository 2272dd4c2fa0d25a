"""What the tests promise of themselves: functions, no packages, and no waiting by the clock."""

import ast
from collections.abc import Iterator, Mapping

# "path:line of the function" would rot, so: "path:function" to why it must let time pass.
SLEEPS: Mapping[str, str] = {
    "tests/flows/apps/chains.py:_call_three_times": "an agent's tool takes its time",
}


def test_tests_are_functions_outside_of_packages(python_files: Mapping[str, str]) -> None:
    classes = [
        f"{name}:{node.name}"
        for name, text in _tests(python_files)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test")
    ]
    packages = [name for name, _ in _tests(python_files) if name.endswith("__init__.py")]
    assert classes + packages == []


def test_no_test_sleeps(python_files: Mapping[str, str]) -> None:
    assert sorted(set(_sleeps(python_files)) - set(SLEEPS)) == []


def test_every_exception_is_still_needed_and_has_a_reason(
    python_files: Mapping[str, str],
) -> None:
    assert set(SLEEPS) <= set(_sleeps(python_files))
    assert all(SLEEPS.values())


def _tests(python_files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, text) for name, text in python_files.items() if name.startswith("tests/"))


def _sleeps(python_files: Mapping[str, str]) -> Iterator[str]:
    """Yield each function that sleeps; `sleep(0)` only gives way and is no sleep."""
    for name, text in _tests(python_files):
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and any(
                _is_sleep(node) for node in ast.walk(function)
            ):
                yield f"{name}:{function.name}"


def _is_sleep(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    gives_way = [ast.unparse(argument) for argument in node.args] == ["0"]
    return name == "sleep" and not gives_way
