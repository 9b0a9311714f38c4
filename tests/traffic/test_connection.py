"""A connection as an application holds it: what it sends, reads and leaves, however its peer acts."""

from types import SimpleNamespace

import pytest
from on_loopback import Loopback

from twlab.errors import ScenarioError
from twlab.loop import Loop
from twlab.results.transcript import Transcript
from twlab.traffic.applications import Host

BULK = 40_000_000  # more than the kernels' buffers hold


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def ends(loop):
    """Both ends of a connection."""
    host = Host(Loopback(), loop, Transcript(lambda: loop.now_s))
    listener = host.listen(0)
    near = host.connect(SimpleNamespace(name="loopback", address=lambda family=4: "127.0.0.1"), listener.port)
    far = listener.accept()
    far.keep = False
    listener.close()
    yield near, far
    near.close()
    far.close()


def test_what_is_sent_after_the_peers_fin_arrives_whole(loop, ends):
    """A half-closed peer still reads."""
    near, far = ends
    far.finish()
    assert near.wait_closed_by_peer()
    near.send(b"x" * 65536, total=BULK)
    assert far.wait_received(BULK)


def test_what_is_being_sent_when_the_peers_fin_comes_arrives_whole(loop, ends):
    """The FIN ends the peer's sending half, and not ours."""
    near, far = ends
    far.pause()
    loop.call_later(0.02, far.finish)
    loop.call_later(0.04, far.resume)
    near.send(b"x" * 65536, total=BULK)
    assert near.closed_by_peer
    assert far.wait_received(BULK)


def test_a_reset_while_bytes_are_sent_is_told_as_such(loop, ends):
    """The send has failed, and the connection's error is the reset."""
    near, far = ends
    far.pause()
    loop.call_later(0.02, far.abort)
    with pytest.raises(ScenarioError, match="ECONNRESET") as raised:
        near.send(b"x" * 65536, total=BULK)
    assert raised.value.slug == "send-failed"
    assert (near.error, near.ended) == ("ECONNRESET", True)


def test_a_connection_that_does_not_read_may_send(loop, ends):
    """What arrives stays with the kernel until it reads again."""
    near, far = ends
    near.pause()
    near.send(b"request")
    far.send(b"answer")
    assert far.wait_received(7)
    loop.sleep(0.02)
    assert near.received == 0
    near.resume()
    assert near.receive(6) == b"answer"
