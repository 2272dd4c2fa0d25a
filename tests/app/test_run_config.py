import uuid
import warnings
from contextvars import ContextVar
from typing import Any

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from starlette.requests import Request

from locktender.app.run_config import Asked, RunConfigs
from locktender.wire.langserve import Unprocessable

RUN_ID = uuid.UUID(int=7)
plain: RunnableLambda[Any, Any] = RunnableLambda(lambda value: value)
prompt = PromptTemplate.from_template("say {name}").configurable_fields(
    template=ConfigurableField(id="template")
)


def request(user_agent: str = "somebody") -> Request:
    headers = [(b"user-agent", user_agent.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers})


def session(session_id: str) -> InMemoryChatMessageHistory:  # noqa: ARG001 - LangChain's name
    return InMemoryChatMessageHistory()


def asked(endpoint: str = "invoke") -> Asked:
    return Asked(request(), endpoint)


async def test_a_run_has_a_name_an_id_and_its_origin() -> None:
    config = await RunConfigs(plain, "/run").one(asked("invoke"), {})
    assert isinstance(config["run_id"], uuid.UUID)
    assert config["run_name"] == "/run"
    assert config["metadata"] == {
        "__useragent": "somebody",
        "__langserve_version": "0.3.3",
        "__langserve_endpoint": "invoke",
    }


async def test_a_route_at_the_root_leaves_the_run_the_runnable_s_name() -> None:
    assert "run_name" not in await RunConfigs(plain, "").one(asked("invoke"), {})


async def test_the_config_of_a_path_is_read_once_for_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    def parse(text: str) -> dict[str, Any]:
        read.append(text)
        return {"tags": ["a"]}

    monkeypatch.setattr("locktender.app.run_config.parse_config_hash", parse)
    configs = RunConfigs(plain, "/run", ["tags"])
    hashed = Asked(request(), "batch", "a-hash")
    wishes: list[Any] = [{}, [{}] * 3, [{"tags": ["b"]}] * 3]
    for wish in wishes:
        assert all("a" in config["tags"] for config in await configs.many(hashed, wish, 3))
    assert read == ["a-hash"] * 3


@pytest.mark.parametrize("n_keys", [90, 110])
async def test_the_configs_of_a_batch_have_a_bound_together(n_keys: int) -> None:
    configs = RunConfigs(plain, "/run", ["metadata"])
    wish: Any = {"metadata": {f"k{n}": n for n in range(n_keys)}}
    for asked_for in (wish, [wish] * 1_000):
        if n_keys < 100:
            assert len(await configs.many(asked("batch"), asked_for, 1_000)) == 1_000
            continue
        with pytest.raises(Unprocessable, match="100,000 values"):
            await configs.many(asked("batch"), asked_for, 1_000)


@pytest.mark.parametrize("name", ["max_concurrency", "recursion_limit"])
async def test_a_run_that_may_take_no_step_is_refused(name: str) -> None:
    with pytest.raises(Unprocessable, match=name):
        await RunConfigs(plain, "/run", [name]).one(asked(), {name: 0})


async def test_what_the_route_does_not_allow_is_dropped() -> None:
    wish = {"tags": ["a"], "metadata": {"m": 1}, "run_id": str(RUN_ID), "max_concurrency": 1}
    config = await RunConfigs(plain, "/run", ["tags"]).one(asked("invoke"), wish)
    assert config["tags"] == ["a"]
    assert "m" not in config["metadata"]
    assert config["run_id"] != RUN_ID
    assert "max_concurrency" not in config


async def test_no_caller_can_say_where_its_request_came_from() -> None:
    wish = {"metadata": {"__useragent": "x", "__langserve_endpoint": "x", "m": 1}}
    config = await RunConfigs(plain, "/run", ["metadata"]).one(asked("stream"), wish)
    assert config["metadata"]["__useragent"] == "somebody"
    assert config["metadata"]["__langserve_endpoint"] == "stream"
    assert config["metadata"]["m"] == 1


async def test_a_configurable_that_is_not_allowed_is_refused() -> None:
    configs = RunConfigs(prompt, "/run", ["tags"])
    with pytest.raises(Unprocessable):
        await configs.one(asked("invoke"), {"configurable": {"template": "x"}})


async def test_a_run_id_of_a_batch_is_its_first_run_s() -> None:
    wish = {"run_id": str(RUN_ID)}
    configs = await RunConfigs(plain, "/run", ["run_id"]).many(asked("batch"), wish, 3)
    ids = [config["run_id"] for config in configs]
    assert ids[0] == RUN_ID
    assert len(set(ids)) == 3


async def test_each_input_of_a_batch_may_have_its_config() -> None:
    configs = RunConfigs(plain, "/run", ["tags"])
    first, second = await configs.many(asked("batch"), [{"tags": ["a"]}, {}], 2)
    assert (first["tags"], "tags" in second) == (["a"], False)
    with pytest.raises(Unprocessable):
        await configs.many(asked("batch"), [{}], 2)


async def test_runs_do_not_share_their_metadata() -> None:
    first, second = await RunConfigs(plain, "/run").many(asked("batch"), {}, 2)
    assert first["metadata"] is not second["metadata"]


async def test_a_modifier_has_the_last_word_but_for_name_and_origin() -> None:
    async def modify(config: dict[str, Any], given: Request) -> dict[str, Any]:
        tags = ["from", given.headers["user-agent"]]
        metadata = {"__langserve_endpoint": "x", "who": "ann"}
        return {**config, "tags": tags, "metadata": metadata, "run_name": "x"}

    configs = RunConfigs(plain, "/run", modifier=modify)
    for config in [
        await configs.one(asked("invoke"), {}),
        *await configs.many(asked("batch"), {}, 2),
        *await configs.many(asked("batch"), [{}, {}], 2),
    ]:
        assert config["tags"] == ["from", "somebody"]
        assert config["metadata"]["who"] == "ann"
        assert config["metadata"]["__langserve_endpoint"] != "x"
        assert config["run_name"] == "/run"


async def test_tags_without_measure_are_refused_where_tags_may_be_set() -> None:
    wish = {"tags": [str(n) for n in range(101)]}
    with pytest.raises(Unprocessable, match="100 tags, not 101"):
        await RunConfigs(plain, "/run", ["tags"]).one(asked("invoke"), wish)
    assert not (await RunConfigs(plain, "/run").one(asked("invoke"), wish)).get("tags")


@pytest.mark.parametrize("n_runs", [0, -1])
async def test_a_batch_that_may_not_run_at_all_is_refused(n_runs: int) -> None:
    configs = RunConfigs(plain, "/run", ["max_concurrency"])
    with pytest.raises(Unprocessable):
        await configs.many(asked("batch"), {"max_concurrency": n_runs}, 2)


async def test_what_is_to_be_done_before_a_run_is_done_once_for_each_in_its_context() -> None:
    said: ContextVar[int] = ContextVar("said", default=0)

    def say() -> None:
        said.set(said.get() + 1)

    configs = RunConfigs(plain, "/run", before_run=say)
    await configs.one(asked(), {})
    await configs.many(asked("batch"), {}, 3)
    assert said.get() == 2
    configs.described(asked())
    assert said.get() == 2


async def test_a_key_of_configurable_that_nobody_declares_reaches_the_run() -> None:
    wish = {"configurable": {"user": "ann", "template": "x", "deep": {"a": [1]}}}
    for runnable in (plain, prompt):
        config = await RunConfigs(runnable, "/run").one(asked(), wish)
        assert config["configurable"] == wish["configurable"]


@pytest.mark.parametrize("key", ["__pregel_send", "langgraph_auth_user", "checkpoint_map", "mine"])
async def test_no_caller_says_what_is_not_a_caller_s(key: str) -> None:
    bound = plain.with_config(configurable={"mine": 1})
    wish = {"configurable": {key: "x", "user": "ann"}}
    config = await RunConfigs(bound, "/run").one(asked(), wish)
    assert config["configurable"] == {"user": "ann"}


async def test_what_a_modifier_sets_wins_over_a_key_that_nobody_declares() -> None:
    def modify(config: dict[str, Any], _: Request) -> dict[str, Any]:
        return {**config, "configurable": {**config["configurable"], "user": "bob"}}

    wish = {"configurable": {"user": "ann", "more": 1}}
    configs = RunConfigs(plain, "/run", modifier=modify)
    for config in [await configs.one(asked(), wish), *await configs.many(asked(), wish, 2)]:
        assert config["configurable"] == {"user": "bob", "more": 1}


@pytest.mark.parametrize("wish", [{}, {"configurable": {}}, {"configurable": {"user": "x"}}])
async def test_a_history_without_its_session_is_refused(wish: dict[str, Any]) -> None:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        talk: Any = RunnableWithMessageHistory(plain, session)
    configs = RunConfigs(talk, "/run")
    with pytest.raises(Unprocessable) as refused:
        await configs.one(asked(), wish)
    detail: Any = refused.value.detail
    assert [error["loc"] for error in detail] == [["configurable", "session_id"]]
    named = await configs.one(asked(), {"configurable": {"session_id": "1"}})
    assert named["configurable"] == {"session_id": "1"}
    bound = talk.with_config(configurable={"session_id": "2"})
    config = await RunConfigs(bound, "/run").one(asked(), wish)
    assert "session_id" not in config.get("configurable", {})


async def test_a_schema_s_default_is_no_word_on_what_the_author_has_bound() -> None:
    bound = prompt.with_config(configurable={"template": "dear {name}"})
    configs = RunConfigs(bound, "/run")
    config = await configs.one(asked(), {"configurable": {"user": "ann"}})
    assert config["configurable"] == {"user": "ann"}
    config = await configs.one(asked(), {"configurable": {"template": "bye {name}"}})
    assert config["configurable"] == {"template": "bye {name}"}


def test_a_history_that_nobody_can_name_a_session_of_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        talk: Any = RunnableWithMessageHistory(plain, session)
    RunConfigs(talk, "/run")
    RunConfigs(talk, "/run", [], modifier=lambda config, _: config)
    RunConfigs(plain, "/run", [])
    assert not caplog.messages
    RunConfigs(talk, "/run", [])
    assert ["session_id" in told for told in caplog.messages] == [True]
