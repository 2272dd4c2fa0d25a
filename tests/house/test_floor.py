"""A floor in pyproject.toml is a version that was run, and not one that nothing would install."""

import os
import tomllib
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version


@pytest.mark.skipif(
    os.environ.get("TEST_VERSIONS") != "floors", reason="for `scripts/test --floors`"
)
def test_what_is_installed_is_the_lowest_that_is_declared(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    declared = map(Requirement, chain(project["dependencies"], *extras))
    floors = {
        each.name: Version(bound.version)
        for each in declared
        for bound in each.specifier
        if bound.operator == ">=" and (each.marker is None or each.marker.evaluate())
    }
    if os.environ.get("TORCH") == "newest":
        del floors["torch"]
    # Without the local part, which says what torch was built for.
    found = {name: Version(Version(version(name)).public) for name in floors}
    assert found == floors
