"""What LangChain infers of a structure costs no value that its first step would take."""

import warnings
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    RouterRunnable,
    Runnable,
    RunnableBranch,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnablePick,
)
from langchain_core.runnables.history import RunnableWithMessageHistory
from pydantic import BaseModel

from locktender.app.input import InputReader
from locktender.wire.langserve import Unprocessable

HI = {"type": "human", "content": "hi"}
MODEL = FakeListChatModel(responses=["yes"])
ASKED = ChatPromptTemplate.from_template("{context} {question}")
TALK = ChatPromptTemplate.from_messages([MessagesPlaceholder("past", optional=True), "{ask}"])
LOOP = "{% for row in rows %}{{ row }}{% endfor %}"


def shortened(values: Any) -> Any:
    return values.get("past", [])[-2:]


SHORTENED = RunnablePassthrough.assign(past=shortened)
LATER = SHORTENED | TALK
TEXT_LATER = SHORTENED | ChatPromptTemplate.from_template("{past} {ask}")


class Person(BaseModel):
    name: str
    age: int = 7


def add(x: int) -> int:
    return x + 1


def loud(x: str) -> str:
    return x.upper()


LOUD: Any = RunnableLambda(loud)


def greet(x: Person) -> str:
    return x.name


def one_of_both(value: Any) -> Any:
    return value["q"] if isinstance(value, dict) else value


def read(runnable: Any, value: Any) -> Any:
    return InputReader(runnable).read(value, {})


def at_any_cost(value: Any) -> Any:
    try:
        return value["q"]
    except:  # noqa: E722 - which has another code than one that says what it takes
        return "nothing"


class Unreadable:
    """A class of which JSON knows nothing."""


def unreadable(value: Unreadable) -> Any:
    return value


def anything(value: Any) -> Any:
    return value


def stream(values: Iterator[Any]) -> Iterator[Any]:
    yield from values


def session(session_id: str) -> InMemoryChatMessageHistory:  # noqa: ARG001 - LangChain's name
    return InMemoryChatMessageHistory()


def history(runnable: Any, **keys: Any) -> Any:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return RunnableWithMessageHistory(runnable, session, **keys)


MAP: Any = {"context": anything, "question": RunnablePassthrough()}
ASSIGN = RunnablePassthrough.assign(n=lambda d: d["q"])
ROUTER: Any = RouterRunnable
# LangChain takes what stands in a line for what each of its functions asks for.
ASKS_FOR_Q, IS_Q, _READS_Q = (lambda d: "q" in d), (lambda d: d == "q"), (lambda d: d["q"])
BRANCH: Any = RunnableBranch((lambda d: d["kind"] == "a", lambda _: "A"), sorted)
TYPED_BRANCH = RunnableBranch((lambda v: isinstance(v, str), loud), add)


@pytest.mark.parametrize(
    ("runnable", "value"),
    [
        (MAP | ASKED | MODEL, "where?"),
        (MAP | ASKED | MODEL, {"root": 1}),
        (MAP | ASKED | MODEL, [1, 2]),
        (RunnableParallel(a=lambda x: x + 1), 1),
        (RunnableParallel(a=lambda x: x + 1).map(), [1, 2]),
        (RunnableParallel(a=RunnableParallel(b=anything)), None),
        (RunnableParallel(a=PromptTemplate.from_template("{q}"), b=anything), "hi"),
        (RunnableParallel(a=itemgetter("q"), b=anything), {"q": 1, "more": 2}),
        (ASSIGN, {"q": "abc", "more": 1}),
        (ASSIGN | PromptTemplate.from_template("{n} {q}"), {"q": "abc", "more": 1}),
        (ASSIGN | PromptTemplate.from_template("{n}"), {"q": "abc"}),
        (ASSIGN.with_config(tags=["t"]), {"q": "abc"}),
        (BRANCH, {"kind": "b", "other": 1}),
        (TYPED_BRANCH, "5"),
        (TYPED_BRANCH, 5),
        (RunnableLambda(one_of_both), "text"),
        (RunnableLambda(one_of_both), {"more": 1}),
        (RunnableLambda(at_any_cost), {"more": 1}),
        (RunnableLambda(at_any_cost), "text"),
        (RunnableLambda(lambda d: d.get("q")), {"more": 1}),
        (RunnableLambda(lambda d: d.get("q", d["r"])), {"more": 1}),
        (RunnableBranch((ASKS_FOR_Q, len), (IS_Q, len), str), "text"),
        (RunnableBranch((IS_Q, len), (ASKS_FOR_Q, len), str), "text"),
        (RunnableLambda(itemgetter("q")), {"q": 1, "more": 2}),
        (RunnableLambda(itemgetter(0)), "text"),
        (RunnablePick("q") | RunnableLambda(add), {"q": 1, "more": 2}),
        (RunnablePick(["q", "r"]) | PromptTemplate.from_template("{q}"), {"q": "a", "s": 1}),
        (PromptTemplate.from_template("{q}"), "bare"),
        (PromptTemplate.from_template("{q}").map(), [{"q": "a"}, {"q": "b", "more": 1}]),
        (PromptTemplate.from_template("{q}"), {"q": "a", "more": 1}),
        (ChatPromptTemplate.from_template("{schema}"), {"schema": "a"}),
        (TALK | MODEL, {"ask": "hi"}),
        (TALK | MODEL, {"ask": "hi", "more": None}),
        (RunnableLambda(add).with_fallbacks([LOUD]), "text"),
        (RunnableGenerator(stream), {"a": [1]}),
        (ROUTER({"a": RunnableLambda(add)}), {"key": "a", "input": 1}),
        (RunnableLambda(add).map(), [1, 2]),
        (
            PromptTemplate.from_template("{{#rows}}{{x}}{{/rows}}", template_format="mustache"),
            {"rows": [{"x": "1"}, {"x": "2"}]},
        ),
        (
            ChatPromptTemplate([("human", "{{#rows}}{{.}}{{/rows}}")], template_format="mustache"),
            {"rows": ["x", "y"]},
        ),
        (ChatPromptTemplate([("human", LOOP)], template_format="jinja2"), {"rows": [1, 2]}),
        (PromptTemplate.from_template(LOOP, template_format="jinja2") | MODEL, {"rows": [1, 2]}),
        (LATER | MODEL, {"past": "not read", "ask": "hi"}),
        (LATER | MODEL, {"ask": "hi"}),
        (LATER | MODEL, {"ask": "hi", "past": [5]}),
        (TEXT_LATER, {"past": [HI], "ask": "hi"}),  # nobody says that these are messages
    ],
)
def test_what_the_first_step_takes_comes_whole(runnable: Runnable[Any, Any], value: Any) -> None:
    assert read(runnable, value) == value


@pytest.mark.parametrize(
    ("runnable", "value", "reason"),
    [
        (ASKED, {"context": "x"}, "missing"),
        (ASKED, "text", "model_type"),
        (ChatPromptTemplate([("human", LOOP)], template_format="jinja2"), {"q": 5}, "missing"),
        (PromptTemplate.from_template("{q}"), {"q": 5}, "string_type"),
        (PromptTemplate.from_template("{q}"), 5, "model_type"),
        (TALK | MODEL, {"ask": "hi", "past": None}, "list_type"),
        (RunnableLambda(add), "text", "int_parsing"),
        (RunnableLambda(greet), {"age": 1}, "missing"),
        (RunnableLambda(itemgetter("q")), {"r": 1}, "missing"),
        (RunnableLambda(lambda d: d["q"]), {"r": 1}, "missing"),
        (RunnableParallel(a=PromptTemplate.from_template("{q}"), b=anything), {"r": 1}, "missing"),
        (ASSIGN | PromptTemplate.from_template("{n} {q}"), {"r": 1}, "missing"),
        (ASSIGN, 5, "model_type"),
        (RunnablePassthrough.assign(a=anything), 5, "dict_type"),
        (BRANCH, {"other": 1}, "missing"),
        (TYPED_BRANCH, [1], "int_type"),
        (RunnableLambda(add).map(), ["text"], "int_parsing"),
        (RunnableParallel(a=add).map(), 5, "list_type"),
        (history(TALK | MODEL, input_messages_key="ask"), {"question": "hi"}, "missing"),
    ],
)
def test_what_could_not_run_is_refused_in_langserve_s_words(
    runnable: Runnable[Any, Any], value: Any, reason: str
) -> None:
    with pytest.raises(Unprocessable) as refused:
        read(runnable, value)
    detail: Any = refused.value.detail
    assert reason in [error["type"] for error in detail]


@pytest.mark.parametrize(
    "runnable",
    [
        TALK | MODEL,
        RunnableParallel(a=anything, b=TALK),
        RunnableParallel(b=TALK, a=anything),
        RunnablePassthrough.assign(ask=anything) | TALK,
        RunnableBranch((lambda _: True, TALK), anything),
        TALK.with_fallbacks([RunnableLambda(anything)]),
        history(TALK | MODEL, input_messages_key="ask"),
        RunnableParallel(a=unreadable, b=TALK),
    ],
)
def test_messages_are_read_wherever_a_part_asks_for_them(runnable: Runnable[Any, Any]) -> None:
    value = read(runnable, {"ask": "hi", "past": [HI], "more": [HI]})
    assert value == {"ask": "hi", "past": [HumanMessage("hi")], "more": [HI]}


@pytest.mark.parametrize(
    "chain",
    [
        LATER,
        SHORTENED.with_config(run_name="shorten") | TALK | MODEL,
        SHORTENED | ChatPromptTemplate([("placeholder", "{past}"), ("human", "{ask}")]),
        RunnableParallel(a=LATER, b=anything),
    ],
)
def test_what_a_function_makes_new_is_read_as_a_later_step_declares_it(chain: Any) -> None:
    value = read(chain, {"past": [HI], "ask": "hi", "more": 1})
    assert value == {"past": [HumanMessage("hi")], "ask": "hi", "more": 1}


@pytest.mark.parametrize("value", ["hi", HI, [HI, {"type": "ai", "content": "ho"}]])
def test_a_history_is_told_messages_in_each_form(value: Any) -> None:
    taken = read(history(MODEL), value)
    assert taken in ("hi", HumanMessage("hi"), [HumanMessage("hi"), AIMessage("ho")])
    whole = history(TALK, input_messages_key="ask", history_messages_key="past")
    assert read(whole, {"ask": value, "tongue": "Latin"}) == {"ask": taken, "tongue": "Latin"}


def test_a_router_s_input_is_read_as_its_way_has_it() -> None:
    router: Any = ROUTER({"a": TALK, "b": RunnableLambda(add)})
    value = {"key": "a", "input": {"ask": "hi", "past": [HI]}}
    taken: list[BaseMessage] = read(router, value)["input"]["past"]
    assert taken == [HumanMessage("hi")]
    assert read(router, {"key": "b", "input": "text"})["input"] == "text"  # for it to fail at


@pytest.mark.parametrize(
    "around",
    [
        anything,
        lambda prompt: RunnableParallel(a=prompt, b=anything),
        lambda prompt: RunnablePassthrough.assign(x=anything) | prompt,
        lambda prompt: RunnableBranch((lambda _: True, prompt), prompt),
        lambda prompt: prompt.with_config(tags=["t"]),
        lambda prompt: history(prompt | MODEL, input_messages_key="ask"),
        lambda prompt: RunnableParallel(a=prompt, b=add),  # which minds, and is not asked
    ],
)
def test_no_caller_says_what_a_prompt_s_author_has_filled(around: Any) -> None:
    prompt = ChatPromptTemplate.from_template("Be {role}. {ask}").partial(role="kind")
    assert read(around(prompt), {"ask": "hi", "role": "rude"}) == {"ask": "hi"}
    named = RunnableParallel(a=prompt, b=itemgetter("role"))
    assert read(named, {"ask": "hi", "role": "rude"}) == {"ask": "hi", "role": "rude"}


def test_each_of_a_list_is_no_word_on_what_the_author_has_filled() -> None:
    prompt = ChatPromptTemplate.from_template("Be {role}. {ask}").partial(role="kind")
    assert read(prompt.map(), [{"ask": "hi", "role": "rude"}]) == [{"ask": "hi"}]


def test_a_declared_model_is_read_as_it_is_declared() -> None:
    assert read(RunnableLambda(greet), {"name": "x", "more": 1}) == {"name": "x", "age": 7}
    assert read(RunnableLambda(greet).map(), [{"name": "x"}]) == [Person(name="x")]
    typed = RunnableParallel(a=anything).with_types(input_type=int)
    assert read(typed, "5") == 5
    with pytest.raises(Unprocessable):
        read(typed, "text")


@pytest.mark.parametrize(
    ("runnable", "schema"),
    [
        (RunnableParallel(a=anything), {}),
        (MAP | ASKED, {}),
        (ASSIGN, {"properties": {"q": {"title": "Q"}}, "required": ["q"], "type": "object"}),
        (
            RunnablePassthrough.assign(a=anything),
            {"additionalProperties": True, "type": "object"},
        ),
        (
            RunnableParallel(a=anything, b=PromptTemplate.from_template("{q}")),
            {
                "properties": {"q": {"title": "Q", "type": "string"}},
                "required": ["q"],
                "type": "object",
            },
        ),
        (
            RunnableParallel(a=anything).map(),
            {
                "default": None,
                "items": {"$ref": "#/$defs/RunnableParallel_a_Input"},
                "type": "array",
            },
        ),
    ],
)
def test_no_schema_asks_for_a_root_that_nobody_reads(
    runnable: Runnable[Any, Any], schema: dict[str, Any]
) -> None:
    shown = InputReader(runnable).schema.model_json_schema()
    assert {key: each for key, each in shown.items() if key not in {"title", "$defs"}} == schema


def test_a_root_that_a_step_reads_is_asked_for() -> None:
    runnable = RunnableParallel(a=itemgetter("root"), b=anything)
    assert InputReader(runnable).schema.model_json_schema()["required"] == ["root"]
    with pytest.raises(Unprocessable):
        read(runnable, {"more": 1})


def test_a_configured_part_of_a_map_is_asked_for_its_own_input() -> None:
    field = ConfigurableField(id="template")
    prompt = PromptTemplate.from_template("{name}").configurable_fields(template=field)
    inputs = InputReader(RunnableParallel(a=prompt, b=anything))
    config: Any = {"configurable": {"template": "{who}"}}
    assert inputs.read({"who": "x", "more": 1}, config) == {"who": "x", "more": 1}
    assert inputs.read({"name": "x", "more": 1}, {}) == {"name": "x", "more": 1}
    with pytest.raises(Unprocessable):
        inputs.read({"name": "x"}, config)


def test_a_session_is_no_reason_to_find_out_again_what_a_history_takes() -> None:
    inputs = InputReader(history(TALK | MODEL, input_messages_key="ask"))
    config: Any = {"configurable": {"session_id": "1", "user": "ann"}}
    assert inputs.schema_for(config) is inputs.schema
