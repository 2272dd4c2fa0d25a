import subprocess
import sys

import pytest

from locktender.core.errors import ConfigError
from locktender.model.engine import ENGINES, EngineSpec, check_engine, load_engine
from locktender.model.engines.echo import EchoStepper


def test_a_known_engine_is_loaded_by_its_name() -> None:
    assert load_engine("echo") is EchoStepper


def test_an_engine_of_the_users_own_is_loaded_by_its_module_and_attribute() -> None:
    assert load_engine("locktender.model.engines.echo:EchoStepper") is EchoStepper


@pytest.mark.parametrize("name", ["eco", "", "locktender.model.engines.echo"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"use one of echo, openvino, transformers, or 'module:attribute'"
    ):
        load_engine(name)


@pytest.mark.parametrize(
    "name", ["absent_module:Engine", "os:Absent", "os:", ":Engine", ".relative:Engine"]
)
def test_an_engine_that_cannot_be_imported_is_the_operators_mistake(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"The engine '{name}' cannot be imported: .+"):
        load_engine(name)


def test_no_engines_packages_are_imported_before_it_is_used() -> None:
    source = "import sys, locktender.model.engine; sys.exit('openvino_genai' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", source], check=False, timeout=60)
    assert finished.returncode == 0


def test_every_known_engine_is_written_as_module_and_attribute() -> None:
    for known in ENGINES.values():
        module, colon, attribute = known.factory.partition(":")
        assert module.startswith("locktender.model.engines.")
        assert colon
        assert attribute.isidentifier()


def test_an_option_that_is_not_set_has_the_default() -> None:
    spec = EngineSpec("echo", max_running=1, options=(("words", 5),))
    assert (spec.option("words", 0), spec.option("pace", 7)) == (5, 7)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("json:__name__", "'json:__name__' is a str, and no class or function"),
        ("json:JSONDecoder", "is a class without `add`, `cancel`, `step`, "),
    ],
)
def test_what_is_no_engine_is_the_operators_mistake(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_engine(name)


def test_an_engine_of_the_users_own_has_options_of_its_own() -> None:
    check_engine("locktender.model.engines.echo:EchoStepper", [("an_option", "of its own")])
    assert callable(load_engine("functools:reduce"))  # a function is known only when it is called
