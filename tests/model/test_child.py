"""The child's end of the socket, without an engine."""

import socket

from locktender.model.child import Line
from locktender.model.frames import Cancel, FrameReader, Tokenized, encode, read_from_child


def test_what_the_socket_did_not_take_goes_while_nothing_comes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line, reader = Line(theirs), FrameReader()
        tokens = Tokenized(1, tuple(range(500_000)))
        line.send(encode(tokens))
        ours.setblocking(False)
        bodies: list[bytes] = []
        for _ in range(10_000):
            try:
                bodies += reader.feed(ours.recv(1 << 20))
            except BlockingIOError:
                assert line.receive(0) is None
            if bodies:
                break
        assert [read_from_child(body) for body in bodies] == [tokens]


def test_a_frame_is_read_while_something_is_unsent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Line(theirs)
        line.send(encode(Tokenized(1, tuple(range(500_000)))))
        ours.sendall(encode(Cancel(7)))
        assert line.receive(10) == Cancel(7)
        assert line.receive(0) is None
