"""Run one engine in a process of its own: one thread that reads its socket, steps and reports.

One thread, because a step of an engine may hold the interpreter for half a second: an event loop
beside it would only take turns with it (measured: 0.99 of the bare engine's tokens/s this way,
0.93 with asyncio beside a step thread).  Started by `process` as
``python -m locktender.model.child FD PARENT_PID FORM``, the last for its log; it dies with its
parent, in whatever state.  It imports the standard library, msgspec and its engine, and nothing
else.
"""

import ctypes
import logging
import os
import select
import signal
import socket
import sys
import time
from collections import deque

from locktender.core.errors import ConfigError, EngineError, EngineFailed, LocktenderError
from locktender.core.log_line import LineFormatter
from locktender.core.printed import log_what_python_prints
from locktender.core.request import Delta
from locktender.model.canary import ask_canary
from locktender.model.engine import Output, Stepper, load_engine, takes_chats, token_ids
from locktender.model.frames import (
    Add,
    Cancel,
    FrameReader,
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
    read_to_child,
)
from locktender.model.settings import BEAT_S

__all__ = ["main"]

_CHUNK_BYTES = 256 * 1024
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_log = logging.getLogger("locktender.engine")


class ParentGone(Exception):
    """The other end of the socket has closed."""


class Line:
    """The child's end of the socket.  Reads never block longer than asked; nor do writes.

    Outputs that the parent is too slow to take are merged until it is not, so neither side can
    hold up the other and a slow parent costs no more memory than the text itself.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._poll = select.poll()  # `select` would refuse a descriptor above 1,023
        self._poll.register(sock, select.POLLIN)
        self._reader = FrameReader()
        self._received: deque[bytes] = deque()
        self._unsent = memoryview(b"")
        self._outputs: dict[int, list[Output]] = {}
        self._reported = 0  # requests that the last report said were running
        self._reported_at = 0.0

    def receive(self, wait_s: float) -> ToChild | None:
        """Return the next frame, after waiting for it at most `wait_s`; None if there is none."""
        if not self._received:
            self._received.extend(self._reader.feed(self._read(wait_s)))
        return read_to_child(self._received.popleft()) if self._received else None

    def _read(self, wait_s: float) -> bytes:
        # Or until it takes more of what is unsent: the tokens of a long text are some megabytes.
        self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        found = dict(self._poll.poll(wait_s * 1000)).get(self._socket.fileno(), 0)
        if found & select.POLLOUT:
            self._flush()
        if not found & ~select.POLLOUT:
            return b""
        try:
            chunk = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return b""
        except ConnectionError as error:
            raise ParentGone from error
        if not chunk:
            raise ParentGone
        return chunk

    def put(self, key: int, output: Output) -> None:
        """Have `output` sent with the next progress, merged into what is unsent."""
        outputs = self._outputs.setdefault(key, [])
        if outputs and isinstance(outputs[-1], Delta) and isinstance(output, Delta):
            outputs[-1] += output
        else:
            outputs.append(output)

    def forget(self, key: int) -> None:
        """Drop what is unsent for `key`."""
        self._outputs.pop(key, None)

    def report(self, n_steps: int, n_running: int) -> None:
        """Send progress with all outputs, if there is any and the parent has taken the last."""
        now = time.monotonic()
        is_due = now - self._reported_at >= BEAT_S
        has_news = self._outputs or n_running != self._reported
        if not (has_news or is_due) or not self._flush():
            return
        pieces = tuple(Piece.of(key, one) for key, many in self._outputs.items() for one in many)
        self._outputs.clear()
        self._reported, self._reported_at = n_running, now
        self.send(encode(Progress(n_steps, n_running, pieces)))

    def send(self, frame: bytes) -> None:
        """Send `frame` as far as the socket takes it; the rest goes with the next call."""
        self._unsent = memoryview(bytes(self._unsent) + frame)
        self._flush()

    def send_last(self, frame: bytes) -> None:
        """Send `frame` whole, however long that takes: nothing follows it."""
        self._socket.setblocking(True)
        self._socket.sendall(bytes(self._unsent) + frame)

    def _flush(self) -> bool:
        while self._unsent:
            try:
                n_sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return False
            except ConnectionError as error:
                raise ParentGone from error
            self._unsent = self._unsent[n_sent:]
        return True


def main(arguments: list[str]) -> int:
    """Serve the parent on file descriptor ``arguments[0]`` until it says stop, or is gone."""
    descriptor, parent = int(arguments[0]), int(arguments[1])
    _die_with(parent)
    # Ctrl-C and a service manager's signals go to all processes; the parent drains and then says
    # stop, and until then its streams need this one.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    line = Line(socket.socket(fileno=descriptor))
    try:
        stepper = _start(line)
        if stepper is None:
            return 1
        try:
            _serve(line, stepper)
        finally:
            stepper.close()
    except ParentGone:
        _log.info("the service has gone; the engine ends")
    return 0


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, even in a step or stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It died before we asked.
        sys.exit(0)


def _start(line: Line) -> Stepper | None:
    while (frame := line.receive(BEAT_S)) is None:
        pass
    if not isinstance(frame, Start):
        return None  # Stopped before it began.
    try:
        sys.path.extend(entry for entry in frame.path if entry not in sys.path)
        stepper = load_engine(frame.spec.engine)(frame.spec)
        if frame.spec.canary:
            ask_canary(stepper, is_chat=takes_chats(frame.spec.engine))
    except LocktenderError as error:
        line.send_last(encode(StartFailed(error.message, isinstance(error, ConfigError))))
        return None
    line.send(encode(Ready(stepper.limits)))
    return stepper


def _serve(line: Line, stepper: Stepper) -> None:
    running: dict[int, str] = {}  # their ids, by key
    n_steps = 0
    while True:
        wait_s = 0.0 if stepper.has_work() else BEAT_S
        while (frame := line.receive(wait_s)) is not None:
            if not _obey(frame, line, stepper, running):
                return
            wait_s = 0.0
        if stepper.has_work():
            for key, output in stepper.step():
                line.put(key, output)
                if isinstance(output, LocktenderError) or output.finish_reason is not None:
                    request_id = running.pop(key, None)
                    if isinstance(output, EngineError):  # Its cause stays in this process.
                        _tell("the engine failed at a request", output, request_id)
            n_steps += 1
        line.report(n_steps, len(running))


def _obey(frame: ToChild, line: Line, stepper: Stepper, running: dict[int, str]) -> bool:
    """Do what `frame` says; return whether to go on."""
    match frame:
        case Add():
            _add(line, stepper, frame, running)
        case Cancel(key):
            stepper.cancel(key)
            line.forget(key)
            running.pop(key, None)
        case Tokenize():
            line.send(encode(_tokenized(stepper, frame)))
        case Start() | Stop():
            return False
    return True


def _add(line: Line, stepper: Stepper, frame: Add, running: dict[int, str]) -> None:
    try:
        stepper.add(frame.key, frame.request())
    except LocktenderError as error:
        if isinstance(error, EngineError):
            _tell("the engine failed to take a request", error, frame.id)
        line.put(frame.key, error)
    except Exception as error:  # noqa: BLE001 - a boundary: a fault in one request must not end the others
        _tell("the engine failed to take a request", error, frame.id)
        line.put(frame.key, EngineFailed("The engine failed to take this request."))
    else:
        running[frame.key] = frame.id


def _tell(what: str, error: Exception, request_id: str | None) -> None:
    _log.error("%s", what, exc_info=error, extra={"fields": {"request_id": request_id}})


def _tokenized(stepper: Stepper, frame: Tokenize) -> Tokenized:
    try:
        return Tokenized(frame.key, tuple(token_ids(stepper, frame.prompt())))
    except LocktenderError as error:
        if isinstance(error, EngineError):
            _tell("the engine failed to tell the tokens of a prompt", error, None)
        return Tokenized.failed(frame.key, error)
    except Exception as error:  # noqa: BLE001 - a boundary, as `_add`'s
        _tell("the engine failed to tell the tokens of a prompt", error, None)
        return Tokenized.failed(frame.key, EngineFailed("The engine failed at this prompt."))


if __name__ == "__main__":
    log = logging.StreamHandler()
    log.setFormatter(LineFormatter("json" if sys.argv[3:] == ["json"] else "text"))
    logging.basicConfig(level=logging.INFO, handlers=[log])
    log_what_python_prints()
    sys.exit(main(sys.argv[1:]))
