"""What may be written down: no place of one machine, no secret, no check silenced in silence."""

import io
import re
import tokenize
from collections.abc import Iterator, Mapping

import pytest

# Written with a class of one character, so that the patterns do not find themselves.
MACHINE_PATHS = re.compile(
    r"""(?<![\w.~/:*-])/(?:[h]ome|[U]sers|[r]oot|[t]mp|[w]ork|[o]pt|[m]nt)/|[A-Z]:\\\\?[U]sers"""
)
SECRETS = re.compile(
    r"""
    -----BEGIN\ [A-Z ]*PRIVATE\ KEY
    | \b[A]KIA[0-9A-Z]{16}\b              # cloud access keys
    | \b(?:[s]k|pk|rk)-[A-Za-z0-9_-]{20,} # model services
    | \b[h]f_[A-Za-z0-9]{30,}             # model hubs
    | \b[g](?:hp|ho|hs|hu|hr)_[A-Za-z0-9]{30,}
    | \b[g]ithub_pat_[A-Za-z0-9_]{30,}
    | \b[x]ox[abprs]-[A-Za-z0-9-]{10,}
    | \b[p]ypi-[A-Za-z0-9_-]{40,}
    | [a-z]+://[^\s/:@"'{}<>]+:[^\s/:@"'{}<>]+@ # a password in an address
    """,
    re.VERBOSE,
)
SILENCERS = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma:\s*no\s*cover)", re.IGNORECASE)
REASON = re.compile(
    r"""
    \#\s*(?:noqa:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*
        | type:\s*ignore\[[a-z,\s-]+\]
        | pragma:\s*no\s*cover)
    [\s#:-]+
    \w\S*\s+\S                            # two words at least
    """,
    re.VERBOSE,
)


def test_no_file_names_a_place_of_one_machine(text_files: Mapping[str, str]) -> None:
    assert list(_found(MACHINE_PATHS, text_files)) == []


def test_no_file_holds_what_looks_like_a_secret(text_files: Mapping[str, str]) -> None:
    assert list(_found(SECRETS, text_files)) == []


def test_every_silenced_check_says_why_on_its_line(python_files: Mapping[str, str]) -> None:
    silent = [
        f"{name}:{line}: {comment}"
        for name, text in python_files.items()
        for line, comment in _comments(text)
        if SILENCERS.search(comment) and not REASON.search(comment)
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("comment", "is_reasoned"),
    [
        ("# noqa: BLE001 - the loop outlives every request", True),
        ("# noqa: BLE001, S110  an observer must not raise", True),
        ("# noqa: BLE001", False),
        ("# noqa", False),
        ("# noqa: BLE001 - why", False),
        ("# type: ignore[arg-type]  # the stub is older than the function", True),
        ("# type: ignore[arg-type]", False),
    ],
)
def test_a_reason_is_words_after_the_code(comment: str, *, is_reasoned: bool) -> None:
    assert bool(REASON.search(comment)) is is_reasoned


@pytest.mark.parametrize("folder", ["home/ann", "tmp/model", "Users/ann"])
def test_a_machine_path_is_found(folder: str) -> None:
    assert MACHINE_PATHS.search(f"open '/{folder}/x'")
    assert not MACHINE_PATHS.search(f"https://example.org/{folder}/x")


def test_a_secret_is_found() -> None:
    assert SECRETS.search("sk" + "-" + "a1" * 12)
    assert SECRETS.search("https://ann:" + "word@example.org")
    assert not SECRETS.search("https://example.org/a@b")


def _found(pattern: re.Pattern[str], texts: Mapping[str, str]) -> Iterator[str]:
    for name, text in texts.items():
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(line):
                yield f"{name}:{number}: {line.strip()}"


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
