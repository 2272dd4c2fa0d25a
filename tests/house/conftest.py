"""What the house tests look at: the files of the repository, read once."""

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "locktender"
TEMPLATE = PACKAGE / "deploy" / "template"  # files of a user's project, not modules of ours
TEXT_FOLDERS = (".ci", "benchmarks", "checks", "docs", "scripts", "src", "tests")
TEXT_SUFFIXES = {"", ".cfg", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def modules() -> Mapping[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name below `locktender`."""
    return {
        _dotted(path): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
        if TEMPLATE not in path.parents
    }


@pytest.fixture(scope="session")
def pins() -> Mapping[str, str]:
    """The versions in constraints.txt, by library."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    words = [line.split()[0].partition("==") for line in lines if not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, _, version in words}


@pytest.fixture(scope="session")
def python_files() -> Mapping[str, str]:
    """Every Python file that we wrote, as text, by its path in the checkout."""
    return {name: text for name, text in _texts().items() if name.endswith(".py")}


@pytest.fixture(scope="session")
def text_files() -> Mapping[str, str]:
    """Every text file that we wrote, by its path in the checkout."""
    return _texts()


def _dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "locktender"


def _texts() -> dict[str, str]:
    paths = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in TEXT_FOLDERS:
        paths.extend(path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(paths)
        if path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts
    }
