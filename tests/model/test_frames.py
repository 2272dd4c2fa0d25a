from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.core.errors import (
    ContextTooLong,
    EngineFailed,
    InvalidRequest,
    LocktenderError,
    PeerError,
    PoisonedRequest,
)
from locktender.core.request import (
    ChatInput,
    Delta,
    FinishReason,
    GenerationRequest,
    Input,
    Message,
    RenderedInput,
    Sampling,
    TextInput,
    TokenInput,
)
from locktender.model.engine import EngineSpec, Limits
from locktender.model.frames import (
    Add,
    Cancel,
    FrameReader,
    FromChild,
    Piece,
    Progress,
    Ready,
    Start,
    StartFailed,
    Stop,
    ToChild,
    Tokenize,
    Tokenized,
    encode,
    read_from_child,
    read_to_child,
)

words = st.text(st.characters(codec="utf-8"), max_size=20)
counts = st.integers(0, 2**40)
inputs: st.SearchStrategy[Input] = st.one_of(
    st.lists(st.builds(Message, words, words), max_size=3).map(lambda all_: ChatInput(tuple(all_))),
    st.builds(TextInput, words),
    st.builds(RenderedInput, words, st.just(((0, 3), (5, 9))), st.just((4,))),
    st.lists(st.integers(0, 2**31), max_size=5).map(lambda ids: TokenInput(tuple(ids))),
)
requests = st.builds(
    GenerationRequest,
    id=st.just("7"),
    model=st.just(""),
    input=inputs,
    max_tokens=st.integers(1, 10**6),
    sampling=st.builds(
        Sampling,
        st.floats(0, 2),
        st.floats(0.01, 1),
        st.none() | st.integers(0, 2**64 - 1),
        st.integers(0, 99),
        st.floats(0, 1),
        st.floats(0.1, 2),
    ),
    stop=st.lists(words, max_size=3).map(tuple),
    is_default_max_tokens=st.booleans(),
)
deltas = st.builds(
    Delta,
    words,
    st.integers(0, 1000),
    st.none() | st.integers(0, 10**6),
    st.none() | st.sampled_from(FinishReason),
)
pieces = st.builds(Piece.of, counts, deltas)
to_child: st.SearchStrategy[ToChild] = st.one_of(
    st.builds(
        Start,
        st.builds(
            EngineSpec,
            words,
            st.integers(1, 99),
            words,
            st.dictionaries(
                words, st.booleans() | st.integers(-9, 9) | st.floats(0, 1) | words
            ).map(lambda options: tuple(options.items())),
        ),
        st.lists(words, max_size=3).map(tuple),
    ),
    st.builds(Add.of, st.just(7), requests),
    st.builds(Cancel, counts),
    st.builds(Tokenize.of, counts, inputs),
    st.just(Stop()),
)
from_child: st.SearchStrategy[FromChild] = st.one_of(
    st.builds(Ready, st.builds(Limits, counts, counts, counts)),
    st.builds(StartFailed, words, st.booleans()),
    st.builds(Tokenized, counts, st.lists(st.integers(0, 2**31), max_size=5).map(tuple)),
    st.builds(Tokenized, counts, error=st.tuples(words, words)),
    st.builds(Progress, counts, counts, st.lists(pieces, max_size=3).map(tuple)),
)
readers = pytest.mark.parametrize("read", [read_to_child, read_from_child])


def body_of(frame: ToChild | FromChild) -> bytes:
    (body,) = FrameReader().feed(encode(frame))
    return body


@given(to_child)
def test_a_frame_for_the_child_comes_out_as_it_went_in(frame: ToChild) -> None:
    assert read_to_child(body_of(frame)) == frame


@given(from_child)
def test_a_frame_of_the_child_comes_out_as_it_went_in(frame: FromChild) -> None:
    assert read_from_child(body_of(frame)) == frame


@given(requests)
def test_the_engine_sees_the_request_without_what_it_need_not_know(
    request: GenerationRequest,
) -> None:
    frame = read_to_child(body_of(Add.of(7, request)))
    assert isinstance(frame, Add)
    assert frame.request() == request


@given(inputs)
def test_a_prompt_whose_tokens_are_asked_for_comes_out_as_it_went_in(prompt: Input) -> None:
    frame = read_to_child(body_of(Tokenize.of(7, prompt)))
    assert isinstance(frame, Tokenize)
    assert frame.prompt() == prompt


@given(deltas)
def test_a_delta_comes_out_of_its_piece_as_it_went_in(delta: Delta) -> None:
    assert Piece.of(1, delta).output() == delta


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ContextTooLong("Too long.", "messages"), ContextTooLong),
        (InvalidRequest("No such token."), InvalidRequest),
        (EngineFailed("It broke."), EngineFailed),
        (PoisonedRequest("An engine has no business with this one."), EngineFailed),
    ],
)
def test_an_error_comes_out_as_one_that_an_engine_may_give(
    error: LocktenderError, kind: type[LocktenderError]
) -> None:
    frame = read_from_child(body_of(Progress(1, 0, (Piece.of(1, error),))))
    assert isinstance(frame, Progress)
    output = frame.pieces[0].output()
    assert type(output) is kind
    assert output.message == error.message


@given(st.lists(from_child, max_size=5), st.data())
def test_frames_are_found_however_the_stream_is_cut(
    frames: list[FromChild], cuts: st.DataObject
) -> None:
    stream = b"".join(map(encode, frames))
    inner = cuts.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    reader = FrameReader()
    bodies = []
    for start, end in pairwise([0, *sorted(inner), len(stream)]):
        bodies += reader.feed(stream[start:end])
    assert [read_from_child(body) for body in bodies] == frames


def test_a_frame_that_is_not_whole_is_waited_for() -> None:
    reader = FrameReader()
    frame = encode(Stop())
    assert reader.feed(frame[:-1]) == []
    assert len(reader.feed(frame[-1:] + frame)) == 2


def test_a_frame_that_is_longer_than_any_can_be_is_refused_before_it_has_come() -> None:
    longest = 64 * 1024 * 1024
    assert FrameReader().feed(longest.to_bytes(4, "big")) == []
    with pytest.raises(PeerError, match=f"{longest + 1} bytes"):
        FrameReader().feed((longest + 1).to_bytes(4, "big"))


@readers
@given(body=st.binary(max_size=60))
def test_garbage_is_a_breach_of_the_protocol(read: Callable[[bytes], object], body: bytes) -> None:
    with pytest.raises(PeerError):
        read(body)


@readers
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x81\xa4type\xa4Nope",
        b"\x82\xa4type\xa5Ready\xa6limits\x80",  # limits without a limit
        b"\x81\xa4type\xa2\xff\xfe",  # text that is no UTF-8
        b"\x81\xa1a" + b"\x91" * 100_000 + b"\x90",  # lists in lists in lists
    ],
)
def test_what_is_almost_a_frame_is_a_breach_of_the_protocol(
    read: Callable[[bytes], object], body: bytes
) -> None:
    with pytest.raises(PeerError):
        read(body)


def test_a_frame_of_the_other_direction_is_a_breach_of_the_protocol() -> None:
    with pytest.raises(PeerError):
        read_to_child(body_of(Ready(Limits(1, 1, 1))))
    with pytest.raises(PeerError):
        read_from_child(body_of(Cancel(1)))
