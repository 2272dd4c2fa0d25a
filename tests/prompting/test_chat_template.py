"""A template has what Hugging Face's have, and it can neither run for ever nor reach out."""

from datetime import UTC, datetime
from typing import Any

import pytest
from jinja2 import TemplateSyntaxError

from locktender.core.errors import InvalidRequest
from locktender.prompting.chat_template import ChatTemplate

DOUBLING = (
    "{% set ns = namespace(x='ab') %}"
    "{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
)
TURNS = [{"role": "user", "content": "<b>"}, {"role": "assistant", "content": "Yé"}]


def rendered(source: str, **values: Any) -> str:
    return ChatTemplate(source).render({"messages": TURNS, **values})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "<b>"}'),
        ("{{ {'b': 1, 'a': 'é'} | tojson(sort_keys=True) }}", '{"a": "é", "b": 1}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        ("{% for m in messages %}{{ m.role }}{% break %}{% endfor %}", "user"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        ("{% generation %}{{ messages[1].content }}{% endgeneration %}!", "Yé!"),
        ("{{ messages | map(attribute='role') | join(', ') }}", "user, assistant"),
        ("{{ ', '.join(['a', 'b']) }}{{ 'a' ~ 1 ~ none }}", "a, ba1None"),
        ("{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 2 %}{{ ns.n * 2 ** 3 }}", "16"),
        ("{{ '%s-%s' % ('a', 'b') }}{{ '{}'.format(3) }}", "a-b3"),
        ("{{ absent is defined }}{{ absent }}", "False"),
    ],
)
def test_what_templates_use_is_there(source: str, text: str) -> None:
    assert rendered(source) == text


def test_the_date_is_todays() -> None:
    assert rendered("{{ strftime_now('%Y') }}") in {
        str(datetime.now(UTC).year),
        str(datetime.now().astimezone().year),
    }


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('No system\n messages.') }}", r"messages: No system messages\.$"),
        ("{{ messages.absent.content }}", "has no attribute"),
        ("{{ 'a' + 1 }}", "str"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "steps"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion"),
        ("{{ 'a' * 99999999 }}", "too often"),
        ("{{ 9 ** 9 ** 9 }}", "too high a power"),
        (DOUBLING, "more than 16,000,000 characters"),
        ("{% for i in range(99999) %}" + "x" * 999 + "{% endfor %}", "16,000,000 characters"),
    ],
)
def test_a_template_that_fails_or_goes_too_far_is_the_callers_refusal(
    source: str, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        rendered(source)
    assert len(refusal.value.message) < 400


def test_the_next_rendering_has_all_its_steps_again() -> None:
    template = ChatTemplate("{% for i in range(99999) %}{% endfor %}")
    for _ in range(30):
        assert template.render({}) == ""


def test_what_is_no_template_is_said_when_it_is_made() -> None:
    with pytest.raises(TemplateSyntaxError):
        ChatTemplate("{% if %}")
