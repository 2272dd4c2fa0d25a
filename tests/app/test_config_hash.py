import json

import pytest
from starlette.exceptions import HTTPException

from locktender.app.config_hash import parse_config_hash
from locktender.wire.lzstring import compress_to_encoded_uri_component


def test_a_config_is_read_from_a_path() -> None:
    config = {"configurable": {"template": "bye {who}"}, "tags": ["é"]}
    assert parse_config_hash(compress_to_encoded_uri_component(json.dumps(config))) == config


@pytest.mark.parametrize(
    "text", ["zzzz", *map(compress_to_encoded_uri_component, ("", "[1]", "null", "{", "[" * 2000))]
)
def test_what_holds_no_config_is_a_400(text: str) -> None:
    with pytest.raises(HTTPException) as caught:
        parse_config_hash(text)
    assert (caught.value.status_code, caught.value.detail) == (400, "Invalid config hash")


@pytest.mark.parametrize(
    "text",
    [
        compress_to_encoded_uri_component(json.dumps({"tags": ["a" * 600_000]})),
        compress_to_encoded_uri_component(json.dumps({"tags": [[]] * 10_000})),
        compress_to_encoded_uri_component('{"tags":' + "[" * 300 + "]" * 300 + "}"),
        compress_to_encoded_uri_component('{"tags":["a"]}') + "A" * 16_384,
    ],
)
def test_a_config_that_would_take_long_to_read_is_a_400(text: str) -> None:
    with pytest.raises(HTTPException):
        parse_config_hash(text)
