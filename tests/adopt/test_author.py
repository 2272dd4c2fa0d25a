"""Of packages that were installed it is known whose they are, and which may have models."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import anyio
import anyio.lowlevel
import pytest
import rich
from langchain_core.runnables import RunnableLambda

from locktender.adopt import requirement
from locktender.adopt.author import ELSEWHERE, home_module, is_others, side_of
from locktender.adopt.discover import survey
from locktender.adopt.requirement import is_without_models

# The class as it stands in the user's code: `adopt.chains.models` is the tests' own package.
SOURCE = """\
from adopt.chains.models import Echo

llm = None
shelf = {}

class Keeper:
    def __init__(self):
        self.kept = {}

def load():
    global llm
    llm = Echo()

def ask(text):
    return llm.invoke(text)
"""


class Site:
    """A folder where packages are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, *requires: str) -> ModuleType:
        """Install and import a package."""
        package, info = self.folder / name, self.folder / f"{name}-1.0.dist-info"
        package.mkdir()
        info.mkdir()
        (package / "__init__.py").write_text(SOURCE)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
        lines += [f"Requires-Dist: {each}" for each in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "RECORD").write_text(f"{name}/__init__.py,,\n")
        _forget()
        importlib.invalidate_caches()
        return importlib.import_module(name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("acme"):
            del sys.modules[name]
    _forget()


def _forget() -> None:
    requirement._distributions.cache_clear()  # noqa: SLF001 - it is read once in a process
    is_without_models.cache_clear()


@pytest.mark.parametrize("package", ["anyio", "rich", "pytest", "_pytest", "hypothesis", "yaml"])
def test_a_package_that_requires_no_library_of_models_has_none(package: str) -> None:
    assert is_without_models(package)


@pytest.mark.parametrize(
    "requires", ["langchain-core>=1", "Sentence_Transformers", "llama.cpp.python ; extra == 'x'"]
)
def test_a_package_that_requires_one_may_have_some(requires: str, site: Site) -> None:
    site.install("acme", requires)
    assert not is_without_models("acme")


def test_what_is_required_in_turn_counts_but_for_its_extras(site: Site) -> None:
    site.install("acme_core", "torch>=2")
    site.install("acme_extra", "torch>=2; extra == 'gpu'")
    site.install("acme_near", "acme-core")
    site.install("acme_far", "acme_extra", "acme_far", "a-package-that-is-not-there")
    assert not is_without_models("acme_near")
    assert is_without_models("acme_far")


def test_of_a_package_that_nothing_is_known_of_nothing_is_said() -> None:
    assert not is_without_models("no_such_package")
    assert not is_without_models(__name__)


def test_whose_a_thing_is_depends_on_the_way_to_it(site: Site) -> None:
    acme = site.install("acme")
    assert home_module(acme.ask) == home_module(acme) == home_module(acme.Keeper()) == "acme"
    assert side_of(acme.ask, None) == "acme"  # a link of the chain
    assert side_of(acme.ask, "acme") == "acme"
    assert side_of(acme.ask, "app") == side_of(acme.ask, ELSEWHERE) == ELSEWHERE
    assert side_of(self_made, ELSEWHERE) == __name__.partition(".")[0]
    assert side_of(RunnableLambda(self_made), ELSEWHERE) is None
    assert side_of({}, "app") == "app"
    assert is_others("json", None)
    assert is_others("acme", "app")
    assert not is_others("acme", None)


def self_made(value: str) -> str:
    """Be a function of the user's."""
    return value


def test_an_application_may_be_installed_itself(site: Site) -> None:
    acme = site.install("acme")
    seen = survey([("chain", RunnableLambda(acme.ask))])
    assert [opening.path for opening in seen.said] == ["chain.func:llm"]
    acme.load()
    assert [found.path for found in survey([("chain", RunnableLambda(acme.ask))]).found] == [
        "chain.func:llm"
    ]


@pytest.mark.parametrize(("requires", "is_found"), [(("langchain-core",), True), ((), False)])
def test_models_of_packages_that_require_a_library_of_models_are_found(
    requires: tuple[str, ...], site: Site, *, is_found: bool
) -> None:
    acme = site.install("acme", *requires)
    acme.load()
    seen = survey([("chain", RunnableLambda(lambda text: acme.ask(text.strip())))])
    assert bool(seen.found) is is_found


def test_what_the_user_keeps_in_objects_of_other_packages_is_found(site: Site) -> None:
    acme = site.install("acme")
    keeper, echo = acme.Keeper(), importlib.import_module("adopt.chains.models").Echo()
    chain = RunnableLambda(lambda text: keeper.kept["llm"].invoke(text.strip()))
    before = survey([("chain", chain)])
    assert before.said == ()
    assert any(opening.path == "chain.func:keeper.kept" for opening in before.openings)
    keeper.kept["llm"] = echo
    assert [found.model for found in survey([("chain", chain)]).found] == [echo]


def test_a_model_of_another_package_that_the_user_names_is_found(site: Site) -> None:
    acme = site.install("acme")
    acme.load()
    chain = RunnableLambda(lambda text: acme.llm.invoke(text.strip()))
    assert [found.model for found in survey([("chain", chain)]).found] == [acme.llm]


def test_nothing_is_said_of_places_within_other_packages() -> None:
    console = rich.get_console()

    async def step(text: str) -> str:
        with anyio.fail_after(1):
            await anyio.lowlevel.checkpoint()
            console.print(text)
        return text

    seen = survey([("chain", RunnableLambda(step))])
    assert (seen.said, seen.found, seen.cuts) == ((), (), ())
