"""The HTTP server and clients of proxies' labs, at what a proxy does to them."""

import socket
from contextlib import ExitStack

import pytest
from on_loopback import Loopback

from twlab.loop import Loop
from twlab.traffic.http import WebClients, WebServer, request_of
from twlab.traffic.listener import HttpListener
from twlab.traffic.options import abort_on_close


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


class Answers(HttpListener):
    """Answers `text`; then it resets the connection, closes it, or says `more`."""

    def __init__(self, loop: Loop, text: bytes, *, then: str = "", more: bytes = b""):
        self.text, self.then, self.more = text, then, more
        super().__init__(Loopback(), loop, ("127.0.0.1", 0))

    def _answer(self, sock: socket.socket, head: bytes, nth: int) -> bool:
        self._send(sock, self.text, closes=False)
        if self.then:
            self._loop.call_later(0.02, lambda: self._end(sock))
        return True

    def _end(self, sock: socket.socket) -> None:
        if sock not in self._open:
            return
        if self.then == "says more":
            sock.send(self.more)
            return
        if self.then == "resets":
            abort_on_close(sock)
        self._loop.forget(sock)
        del self._open[sock]
        sock.close()


@pytest.fixture
def asked(loop):
    """`asked(server)`: a client that has sent one request to it, and is done."""
    with ExitStack() as closing:

        def ask(server: HttpListener) -> WebClients:
            closing.callback(server.close)
            clients = WebClients(Loopback(), loop, server.address, rate_per_s=1, duration_s=1, patience_s=30)
            closing.callback(clients.close)
            assert loop.wait_until(lambda: clients.done, 60)
            return clients

        yield ask


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("then", ["closes", "resets", "says more"])
def test_an_idle_connection_may_end_in_every_way(loop, asked, then):
    """Nothing is asked on it, so nothing has failed."""
    clients = asked(Answers(loop, WHOLE, then=then, more=b"HTTP/1.1 408 Request Timeout\r\n\r\n"))
    assert loop.wait_until(lambda: not clients._idle, 10)
    assert clients.answers == {"200": 1}
    assert clients.first_failure_s is None


def test_an_answer_that_is_cut_short_is_no_answer(loop, asked):
    """Its status was 200, and its length is not what it says."""
    clients = asked(Answers(loop, WHOLE[:-1], then="closes"))
    assert clients.answers == {"closed": 1}
    assert clients.first_failure_s is not None


def test_an_answer_without_a_length_ends_with_the_connection(loop, asked):
    """RFC 9112 section 6.3: the last of its rules."""
    assert asked(Answers(loop, b"HTTP/1.0 200 OK\r\n\r\nhello", then="closes")).answers == {"200": 1}


def test_an_answer_larger_than_the_kernels_buffers_arrives_whole(loop, asked):
    """What the kernel does not take at once is sent when it does."""
    server = WebServer(Loopback(), loop, 0, body=b"x" * 12_000_000)
    clients = asked(server)
    assert clients.answers == {"200": 1}
    assert (server.requests, server.resets) == (1, 0)


def test_a_request_with_a_reset_behind_it_is_a_reset(loop, asked):
    """The answer cannot be sent; the server counts a reset, and goes on."""
    server = WebServer(Loopback(), loop, 0)
    for _ in range(3):
        client = socket.create_connection(server.address)
        loop.wait_until(lambda: len(server._open) == 1)
        client.sendall(request_of("GET"))
        abort_on_close(client)
        client.close()
        assert loop.wait_until(lambda: not server._open, 5)
    assert (server.requests, server.resets) == (0, 3)
    assert asked(server).answers == {"200": 1}
