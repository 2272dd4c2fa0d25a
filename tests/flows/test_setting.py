"""Every setting of the table on every engine: obeyed, so that it shows, or refused by name.

What is sent asks for something that would show; none is answered as if it had not been sent.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import aiohttp
import anyio
import pytest

from harness.service import Service
from harness.shared_service import Shared, sharing
from locktender.app.chat_model import ChatLocktender
from locktender.core.errors import InvalidRequest
from locktender.core.request import Feature
from locktender.model.engine import features_of
from locktender.wire.openai_setting import SETTINGS

ASKED = "Say la la la la la la la la"
# By what asks for nothing: something of its kind that does not.
SHOWING: Mapping[type, object] = {
    bool: True,
    int: 3,
    list: ["word"],
    dict: {"type": "json_object"},
    str: "word",
}
# Where another kind would show.
SHOWING_OF: Mapping[str, object] = {
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "add_generation_prompt": False,
    "do_sample": False,
    "include_reasoning": False,
    "min_p": 0.9,
    "repetition_penalty": 1.9,
}
N_TOKENS = 8
HOT = {"temperature": 1.9, "seed": 5, "max_tokens": N_TOKENS}


@pytest.fixture(scope="module")
def shared_echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with sharing(tmp_path_factory.mktemp("echo"), {}) as shared:
        yield shared


@pytest.fixture(params=["echo", "openvino", "transformers"])
async def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def service(
    engine: str, request: pytest.FixtureRequest, client: aiohttp.ClientSession
) -> Service:
    names = {"echo": "echo", "openvino": "smollm2", "transformers": "gemma"}
    shared: Shared = request.getfixturevalue(f"shared_{names[engine]}")
    return await shared.lend(client)


async def test_what_an_engine_does_not_obey_is_refused_by_the_names_of_both(
    service: Service, engine: str
) -> None:
    passed: dict[str, Any] = {}
    with anyio.fail_after(60):
        for name, setting in SETTINGS.items():
            if setting.feature in features_of(engine):
                continue
            reply = await service.ask(ASKED, max_tokens=1, **{name: showing(name)})
            said = str(reply.error.get("message"))
            named = reply.error.get("param") == name and f"the engine `{engine}`" in said
            if reply.status != 400 or not named:
                passed[name] = reply
    assert passed == {}


@pytest.mark.parametrize("feature", list(Feature))
async def test_what_an_engine_obeys_shows_in_its_text(
    service: Service, engine: str, feature: Feature
) -> None:
    with anyio.fail_after(60):
        if feature in features_of(engine):
            await SHOWS[feature](service, engine)
        elif feature is Feature.LONG_SEED:
            reply = await service.ask(ASKED, seed=2**32 + 5)
            assert (reply.status, reply.error["param"]) == (400, "seed")
            assert f"the engine `{engine}`" in reply.error["message"]
        else:
            name: str = feature.value
            reply = await service.ask(ASKED, **{name: showing(name)})
            assert (reply.status, reply.error["param"]) == (400, name)


async def test_what_all_engines_obey_shows_in_the_text(service: Service, engine: str) -> None:
    with anyio.fail_after(60):
        greedy = await text_of(service, max_tokens=N_TOKENS)
        first = next(letter for letter in greedy if letter.isalpha())
        assert await text_of(service, max_tokens=N_TOKENS, stop=first) == greedy.partition(first)[0]
        assert greedy.startswith(await text_of(service, max_tokens=2))
        hot = [await text_of(service, **{**HOT, "seed": seed}) for seed in (5, 6)]
        assert await text_of(service, **HOT) == hot[0]
        assert await text_of(service, **HOT, top_p=1e-6) == greedy
        if engine != "echo":  # whose next word is certain
            assert len({greedy, *hot}) == 3


async def test_a_value_that_asks_for_nothing_changes_nothing(service: Service) -> None:
    neutral = {name: each for name, row in SETTINGS.items() for each in row.neutral}
    with anyio.fail_after(60):
        plain = await text_of(service, max_tokens=N_TOKENS)
        assert await text_of(service, max_tokens=N_TOKENS, **neutral) == plain


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temprature", 0),
        ("options", {"temperature": 0}),
        ("extra_body", {"top_k": 1}),
        ("stop", ["a", 5]),
        ("seed", 1.5),
        ("seed", "5"),
        ("max_completion_tokens", -1),
        ("n", 0),
    ],
)
async def test_what_nobody_knows_or_can_mean_is_refused_by_name(
    shared_echo: Shared, client: aiohttp.ClientSession, name: str, value: Any, *, stream: bool
) -> None:
    echo = await shared_echo.lend(client)
    reply = await echo.ask(ASKED, stream=stream, **{name: value})
    assert (reply.status, reply.error["param"]) == (400, name)


async def test_a_refusal_reaches_whoever_has_bound_the_setting(service: Service) -> None:
    model = ChatLocktender(model=service.model, base_url=service.url, max_tokens=1)
    for given in (
        model.bind(mirostat=2),
        model.model_copy(update={"model_kwargs": {"n_probs": 2}}),
    ):
        with pytest.raises(InvalidRequest, match="is not supported by the engine") as refused:
            await given.ainvoke("hi")
        assert refused.value.param in ("mirostat", "n_probs")
        with pytest.raises(InvalidRequest):
            [chunk async for chunk in given.astream("hi")]


def showing(name: str) -> Any:
    """Return a value of the setting that would show."""
    if name in SHOWING_OF:
        return SHOWING_OF[name]
    neutral = SETTINGS[name].neutral
    return SHOWING[type(neutral[0])] if neutral else "word"


async def text_of(service: Service, **settings: Any) -> str:
    reply = await service.ask(ASKED, **settings)
    assert reply.status == 200, reply.error
    return reply.text


async def _narrows(service: Service, name: str, value: float) -> None:
    greedy = await text_of(service, max_tokens=N_TOKENS)
    assert await text_of(service, **HOT, **{name: value}) == greedy
    assert await text_of(service, **HOT) != greedy


async def _top_k(service: Service, _engine: str) -> None:
    await _narrows(service, "top_k", 1)


async def _min_p(service: Service, _engine: str) -> None:
    await _narrows(service, "min_p", 1.0)


async def _repetition_penalty(service: Service, _engine: str) -> None:
    plain = await text_of(service, max_tokens=2 * N_TOKENS)
    assert await text_of(service, max_tokens=2 * N_TOKENS, repetition_penalty=1.9) != plain


async def _long_seed(service: Service, engine: str) -> None:
    one = await text_of(service, **HOT)
    other = await text_of(service, **{**HOT, "seed": 5 + 2**32})
    assert await text_of(service, **{**HOT, "seed": 5 + 2**32}) == other
    assert (one == other) is (engine == "echo")


SHOWS: Mapping[Feature, Callable[[Service, str], Awaitable[None]]] = {
    Feature.TOP_K: _top_k,
    Feature.MIN_P: _min_p,
    Feature.REPETITION_PENALTY: _repetition_penalty,
    Feature.LONG_SEED: _long_seed,
}
