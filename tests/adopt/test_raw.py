"""What holds weights is guarded or named when it is called past LangChain, wherever it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda

from adopt.probe import Probe, crowd, crowd_at_a_route
from adopt.raw import ENCODERS, LLAMAS, encoder_folder, llama, probed, raw_pipeline
from locktender import add_routes
from locktender.adopt.discover import discover
from locktender.adopt.doctor import examine
from locktender.adopt.guard import can_guard
from locktender.adopt.hazards import hazard_of, is_raw_class
from locktender.adopt.swap import plain_class


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("encoder"))


def _is_swapped(model: object) -> bool:
    return plain_class(model) is not type(model)


@pytest.mark.parametrize("place", LLAMAS, ids=lambda place: place.__name__)
def test_a_language_model_past_langchain_is_guarded_or_said_not_to_be(
    place: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = llama()
    chain = place(model)
    probe = probed(model)
    add_routes(FastAPI(), chain)
    assert crowd(chain.invoke) == []
    assert probe.n_calls
    assert _is_guarded(chain, probe) or _is_said(chain, caplog)


@pytest.mark.parametrize("place", ENCODERS, ids=lambda place: place.__name__)
def test_an_encoder_past_langchain_is_guarded_or_said_not_to_be(
    place: Callable[[Any], Any], encoders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain, network = place(encoders)
    probe = probed(network)
    add_routes(FastAPI(), chain)
    assert crowd(chain.invoke) == []
    assert probe.n_calls
    assert _is_guarded(chain, probe) or _is_said(chain, caplog)


def test_a_pipeline_that_the_lifespan_loads_is_guarded_before_the_first_run() -> None:
    model, pipes = llama(), dict[str, Any]()
    probe = probed(model)
    chain = RunnableLambda(lambda text: pipes["a"].invoke(text))
    assert crowd_at_a_route(chain, lambda: pipes.update(a=raw_pipeline(model))) == []
    assert probe.most == 1


def test_a_pipeline_that_is_made_in_a_run_is_said_when_the_route_is_added(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(text: str) -> Any:
        from transformers import pipeline  # noqa: PLC0415 - the place

        return pipeline("text-generation")(text)

    add_routes(FastAPI(), RunnableLambda(answer))
    assert "func:pipeline makes a model when it runs" in caplog.text


def _is_guarded(chain: Any, probe: Probe) -> bool:
    """Whether the weights were never run by two, as they must be if they can be guarded."""
    raw = [found.model for found in discover(chain) if is_raw_class(type(found.model))]
    can_be = all(can_guard(model, hazard) for model in raw if (hazard := hazard_of(model)))
    assert probe.most == 1 or not can_be
    return probe.most == 1


def _is_said(chain: Any, caplog: pytest.LogCaptureFixture) -> bool:
    findings = examine([("chain", chain)], is_guarded=_is_swapped).findings
    return "is not guarded" in caplog.text and any("Nothing" in each.plan for each in findings)
