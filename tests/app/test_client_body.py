"""Bodies are LangServe's to the byte; of a config crosses what is JSON."""

import json
import uuid
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage

from locktender.app.client_body import InputSerializer, batch_body, invoke_body
from locktender.app.serialization import WellKnownSerializer

SERIALIZER = WellKnownSerializer()


def config_sent(config: Any) -> Any:
    return json.loads(invoke_body(SERIALIZER, 1, config, {}))["config"]


def test_a_body_is_langserve_s_to_the_byte() -> None:
    config: Any = {"tags": [], "metadata": {}, "recursion_limit": 25, "configurable": {}}
    told = b'{"tags":[],"metadata":{},"recursion_limit":25,"configurable":{}}'
    assert invoke_body(SERIALIZER, 1, config, {}) == b'{"input":1,"config":%b,"kwargs":{}}' % told
    expected = b'{"inputs":[1,2],"config":[%b,%b],"kwargs":{}}' % (told, told)
    assert batch_body(SERIALIZER, [1, 2], [config, config], {}) == expected


def test_filters_stand_behind_the_keyword_arguments() -> None:
    body = invoke_body(SERIALIZER, "é", {}, {"k": 1}, {"diff": True, "include_names": None})
    text = '{"input":"é","config":{},"kwargs":{"k":1},"diff":true,"include_names":null}'
    assert body == text.encode()


def test_callbacks_stay_here() -> None:
    assert config_sent({"callbacks": [object()], "tags": ["t"]}) == {"tags": ["t"]}


def test_objects_in_configurable_stay_here() -> None:
    known = {"a": 1, "b": [1, {"c": None}], "f": 1.5, "k": True, "big": 2**70}
    objects = {"o": object(), "u": uuid.uuid4(), 3: 4, "s": {1}, "m": HumanMessage("x")}
    mixed = {"t": (1, object()), "d": {"x": [object(), {"y": object()}]}}
    sent = config_sent({"configurable": {**known, **objects, **mixed}})
    assert sent == {"configurable": {**known, "t": [1], "d": {"x": [{}]}}}


def test_a_run_id_is_sent_as_text() -> None:
    assert config_sent({"run_id": uuid.UUID(int=5)}) == {"run_id": str(uuid.UUID(int=5))}


def test_messages_are_sent_as_the_serializer_writes_them() -> None:
    body = json.loads(invoke_body(SERIALIZER, [HumanMessage("x")], {}, {}))
    assert body["input"][0]["type"] == "human"


@pytest.mark.parametrize("config", [{"metadata": {"x": object()}}, {"metadata": {"x": {1}}}])
def test_metadata_that_are_no_json_are_refused(config: Any) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        config_sent(config)


def test_an_input_that_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="complex"):
        invoke_body(SERIALIZER, {1j}, {}, {})


@pytest.mark.parametrize("value", [{1}, b"ab", Decimal("1.5"), timedelta(1)])
def test_what_only_extensions_carry_is_refused_without_them(value: Any) -> None:
    with pytest.raises(TypeError, match=r"\['b'\] .*`extensions=True`"):
        invoke_body(InputSerializer(), {"b": value}, {}, {})


def test_what_has_one_form_in_json_is_sent_in_it() -> None:
    value = {
        "n": np.float32(0.5),
        "p": Path("a/b"),
        "d": [Document("x", metadata={"i": np.int8(1)})],
    }
    sent = json.loads(invoke_body(InputSerializer(), value, {}, {}))["input"]
    assert (sent["n"], sent["p"], sent["d"][0]["metadata"]) == (0.5, "a/b", {"i": 1})
