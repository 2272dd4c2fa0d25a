"""The tree of errors is drawn, complete, and written down for whoever meets a code."""

import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from locktender.core import errors
from locktender.core.errors import LocktenderError
from locktender.wire.problem import openai_problem

# What a branch of the drawn tree looks like: "    |  |- QueueFull" or "    `- Draining".
BRANCH = re.compile(r"^ {4}(?P<bars>[|` ]*)- (?P<name>\w+)")
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+?) \| [^|]+? \|$", re.MULTILINE)


def test_the_docstring_draws_the_tree_of_classes_as_it_is() -> None:
    assert _drawn_parents() == {error.__name__: error.__bases__[0].__name__ for error in _errors()}


def test_every_error_is_a_public_name_and_nothing_else_is() -> None:
    assert set(errors.__all__) == {error.__name__ for error in _errors()} | {"LocktenderError"}


def test_no_error_is_defined_outside_of_the_tree(modules: Mapping[str, ast.Module]) -> None:
    strangers = [
        f"{name}:{node.name}"
        for name, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and name != "core.errors"
        if {ast.unparse(base).rpartition(".")[2] for base in node.bases} & set(errors.__all__)
    ]
    assert strangers == []


def test_no_two_errors_give_themselves_the_same_code() -> None:
    own = Counter(error.__dict__["code"] for error in _errors() if "code" in error.__dict__)
    assert [code for code, n in own.items() if n > 1] == []


def test_no_two_leaves_share_a_code() -> None:
    leaves = Counter(error.code for error in _leaves())
    assert [code for code, n in leaves.items() if n > 1] == []


def test_every_code_is_in_the_table_of_the_architecture_and_no_other(root: Path) -> None:
    codes = [code for code, _ in _documented(root)]
    assert sorted(codes) == sorted({error.code for error in _leaves()} | {LocktenderError.code})


def test_the_table_of_the_architecture_gives_the_status_that_is_sent(root: Path) -> None:
    kinds: list[type[LocktenderError]] = [LocktenderError, *_leaves()]
    sent = {kind.code: _status(kind) for kind in kinds}
    documented = {code: status for code, status in _documented(root) if status[0].isdigit()}
    assert documented == {code: sent[code] for code in documented}


def _leaves() -> list[type[LocktenderError]]:
    families = {base for error in _errors() for base in error.__bases__}
    return [error for error in _errors() if error not in families]


def _documented(root: Path) -> list[tuple[str, str]]:
    return ROW.findall((root / "docs" / "architecture.md").read_text(encoding="utf-8"))


def _status(error: type[LocktenderError]) -> str:
    problem = openai_problem(error("A sentence."))
    return f"{problem.status}" + (", Retry-After" if "retry-after" in problem.headers else "")


def _errors() -> Iterator[type[LocktenderError]]:
    for _, value in inspect.getmembers(errors, inspect.isclass):
        if issubclass(value, LocktenderError) and value is not LocktenderError:
            yield value


def _drawn_parents() -> dict[str, str]:
    """Read the parent of each error off the indentation of the docstring's tree."""
    ancestors = ["LocktenderError"]
    parents = {}
    for line in (errors.__doc__ or "").splitlines():
        branch = BRANCH.match(line)
        if branch:
            depth = (len(branch["bars"]) + 2) // 3
            del ancestors[depth:]
            parents[branch["name"]] = ancestors[-1]
            ancestors.append(branch["name"])
    return parents
