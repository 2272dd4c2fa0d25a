"""The messages between a service and its engine process, and how they are framed.

msgspec structs in MessagePack behind a length of four bytes, over a socketpair; never pickle, so
that a frame can only ever be data.  This is the only module that knows msgspec.  `process` is the
service's end, `child` the engine's.
"""

from typing import TypeAlias

import msgspec

from locktender.core.errors import (
    ContextTooLong,
    EngineFailed,
    InvalidRequest,
    LocktenderError,
    PeerError,
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
from locktender.model.engine import EngineSpec, Limits, Output

__all__ = [
    "Add",
    "Cancel",
    "FrameReader",
    "FromChild",
    "Piece",
    "Progress",
    "Ready",
    "Start",
    "StartFailed",
    "Stop",
    "ToChild",
    "Tokenize",
    "Tokenized",
    "encode",
    "read_from_child",
    "read_to_child",
]

_LENGTH_BYTES = 4
_MAX_FRAME_BYTES = 64 * 1024 * 1024  # far above any prompt; a longer one is a broken stream


class _Input(msgspec.Struct, omit_defaults=True):
    messages: tuple[Message, ...] | None = None
    rendered: RenderedInput | None = None
    text: str | None = None
    ids: tuple[int, ...] | None = None

    @classmethod
    def of(cls, source: Input) -> "_Input":
        match source:
            case ChatInput(messages):
                return cls(messages=messages)
            case RenderedInput():
                return cls(rendered=source)
            case TextInput(text):
                return cls(text=text)
            case TokenInput(ids):
                return cls(ids=ids)

    def input(self) -> Input:
        if self.messages is not None:
            return ChatInput(self.messages)
        if self.rendered is not None:
            return self.rendered
        if self.text is not None:
            return TextInput(self.text)
        return TokenInput(self.ids or ())


class Start(msgspec.Struct, tag=True):
    """Load the engine; the first frame a child gets."""

    spec: EngineSpec
    path: tuple[str, ...]  # the parent's sys.path, for engines of the user's own


class Add(msgspec.Struct, tag=True):
    """Take a request."""

    key: int
    id: str  # for the log of the engine's process alone
    input: _Input
    max_tokens: int
    is_default_max_tokens: bool
    sampling: Sampling
    stop: tuple[str, ...]

    @classmethod
    def of(cls, key: int, request: GenerationRequest) -> "Add":
        """Carry `request` under `key`; what the engine need not know stays behind."""
        return cls(
            key=key,
            id=request.id,
            input=_Input.of(request.input),
            max_tokens=request.max_tokens,
            is_default_max_tokens=request.is_default_max_tokens,
            sampling=request.sampling,
            stop=request.stop,
        )

    def request(self) -> GenerationRequest:
        """Return the request as the engine sees it."""
        return GenerationRequest(
            id=str(self.key),
            model="",
            input=self.input.input(),
            max_tokens=self.max_tokens,
            sampling=self.sampling,
            stop=self.stop,
            is_default_max_tokens=self.is_default_max_tokens,
        )


class Cancel(msgspec.Struct, tag=True):
    """End a request; unknown keys are ignored."""

    key: int


class Tokenize(msgspec.Struct, tag=True):
    """Tell the tokens of a prompt."""

    key: int
    input: _Input

    @classmethod
    def of(cls, key: int, prompt: Input) -> "Tokenize":
        """Carry `prompt` under `key`."""
        return cls(key, _Input.of(prompt))

    def prompt(self) -> Input:
        """Return the prompt as it came."""
        return self.input.input()


class Stop(msgspec.Struct, tag=True):
    """Release everything and exit."""


class Ready(msgspec.Struct, tag=True):
    """The engine is loaded."""

    limits: Limits


class StartFailed(msgspec.Struct, tag=True):
    """The engine could not be loaded; the last frame of this child."""

    message: str
    is_config: bool  # it never can be, as it is configured


class Piece(msgspec.Struct, array_like=True, omit_defaults=True):
    """What a request has got since the last frame; several deltas are merged into one."""

    key: int
    text: str = ""
    n_tokens: int = 0
    prompt_tokens: int | None = None
    finish_reason: FinishReason | None = None
    error: tuple[str, str] | None = None  # code and message

    @classmethod
    def of(cls, key: int, output: Output) -> "Piece":
        """Carry `output`."""
        if isinstance(output, LocktenderError):
            return cls(key, error=(output.code, output.message))
        return cls(key, output.text, output.n_tokens, output.prompt_tokens, output.finish_reason)

    def output(self) -> Output:
        """Return the delta or the error that this carries."""
        if self.error is not None:
            return _error(self.error)
        return Delta(self.text, self.n_tokens, self.prompt_tokens, self.finish_reason)


class Progress(msgspec.Struct, tag=True):
    """The heartbeat: steps done so far, requests in the engine, and what they have got."""

    n_steps: int
    n_running: int
    pieces: tuple[Piece, ...] = ()


class Tokenized(msgspec.Struct, tag=True):
    """The tokens of a prompt, or why there are none."""

    key: int
    ids: tuple[int, ...] = ()
    error: tuple[str, str] | None = None  # code and message

    @classmethod
    def failed(cls, key: int, error: LocktenderError) -> "Tokenized":
        """Carry `error`."""
        return cls(key, error=(error.code, error.message))

    def outcome(self) -> tuple[int, ...] | LocktenderError:
        """Return the ids or the error that this carries."""
        return self.ids if self.error is None else _error(self.error)


ToChild: TypeAlias = Start | Add | Cancel | Tokenize | Stop
FromChild: TypeAlias = Ready | StartFailed | Progress | Tokenized

# The errors that an engine may give a single request; any other is a failure of the engine.
_ERRORS: dict[str, type[LocktenderError]] = {
    kind.code: kind for kind in (ContextTooLong, InvalidRequest, EngineFailed)
}


def _error(told: tuple[str, str]) -> LocktenderError:
    code, message = told
    return _ERRORS.get(code, EngineFailed)(message)


# msgspec lets the last two through: text that is no UTF-8, and nesting without an end.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encoder = msgspec.msgpack.Encoder()
_to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)


def encode(frame: ToChild | FromChild) -> bytes:
    """Return `frame` as it goes over the socket."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def read_to_child(body: bytes) -> ToChild:
    """Decode a frame for the child.  Raises: PeerError."""
    try:
        return _to_child.decode(body)
    except _UNREADABLE as error:
        raise PeerError("A frame from the service cannot be read.") from error


def read_from_child(body: bytes) -> FromChild:
    """Decode a frame from the child.  Raises: PeerError."""
    try:
        return _from_child.decode(body)
    except _UNREADABLE as error:
        raise PeerError("A frame from the engine cannot be read.") from error


class FrameReader:
    """Cuts a stream of bytes into the bodies of its frames, in any chunking."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and return the bodies that are now whole.  Raises: PeerError."""
        self._buffer += chunk
        bodies = []
        at = 0
        while len(self._buffer) - at >= _LENGTH_BYTES:
            length = int.from_bytes(self._buffer[at : at + _LENGTH_BYTES], "big")
            if length > _MAX_FRAME_BYTES:
                message = f"A frame of {length} bytes is longer than any can be."
                raise PeerError(message)
            start, end = at + _LENGTH_BYTES, at + _LENGTH_BYTES + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[start:end]))
            at = end
        del self._buffer[:at]
        return bodies
