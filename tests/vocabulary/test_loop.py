"""The loop: timers in order, readiness, waiting. All of it also where the kernel, or the C library,
has no epoll_pwait2.
"""

import ctypes
import errno
import signal
import socket

import pytest

from twlab import loop as module
from twlab.loop import Loop


def no_such_system_call(*_):
    ctypes.set_errno(errno.ENOSYS)
    return -1


@pytest.fixture(params=["epoll_pwait2", "not in the C library", "not in the kernel"])
def loop(request, monkeypatch):
    if request.param != "epoll_pwait2":
        other = staticmethod(no_such_system_call) if request.param == "not in the kernel" else None
        monkeypatch.setattr(module._ReadySelector, "_wait", other)
    loop = Loop()
    yield loop
    loop.close()


def test_timers_run_in_the_order_of_their_times_and_then_of_their_asking(loop):
    """Due at the same time: first asked, first run. Withdrawn: not run."""
    ran = []
    at = loop.now_s + 0.01
    loop.call_at(at + 0.001, lambda: ran.append("later"))
    loop.call_at(at, lambda: ran.append("first"))
    loop.call_at(at, lambda: ran.append("second"))
    loop.call_at(at, lambda: ran.append("never")).cancel()
    loop.sleep(0.02)
    assert ran == ["first", "second", "later"]


def test_a_timer_may_ask_for_another(loop):
    """A timer asked for by a timer runs in the same sleep when it is due."""
    ran = []
    loop.call_later(0.001, lambda: loop.call_at(0.001, lambda: ran.append(1)))
    loop.sleep(0.01)
    assert ran == [1]


def test_sleep_lasts_as_long_as_it_says(loop):
    """Never shorter."""
    before = loop.now_s
    loop.sleep(0.02)
    assert loop.now_s - before >= 0.02


def test_waiting_ends_with_the_condition_or_with_the_time(loop):
    """wait_until tells which."""
    left, right = socket.socketpair()
    with left, right:
        seen = []
        loop.watch(right, lambda: seen.append(right.recv(10)))
        assert not loop.wait_until(lambda: seen, 0.01)
        left.send(b"x")
        assert loop.wait_until(lambda: seen, 1)
        assert seen == [b"x"]


def test_a_socket_can_be_watched_anew_and_forgotten(loop):
    """watch replaces; forget is harmless twice."""
    left, right = socket.socketpair()
    with left, right:
        loop.watch(left, writable=lambda: loop.forget(left))
        loop.watch(left, writable=lambda: loop.forget(left))
        assert loop.wait_until(lambda: not loop._selector.get_map(), 1)
        loop.forget(left)


def test_what_a_timer_sets_off_is_served_in_the_same_sleep(loop):
    """A segment released as the sleep ends has been read when it returns; and so much time as it
    says has passed.
    """
    near, far = socket.socketpair()
    read = []
    loop.watch(far, lambda: read.append(far.recv(1)))
    at_s = loop.now_s + 0.01
    loop.call_at(at_s, lambda: near.send(b"x"))
    assert at_s <= loop.sleep_until(at_s) <= loop.now_s
    assert read == [b"x"]
    near.close()
    far.close()


def test_more_than_one_look_holds_is_served_with_the_next(loop, monkeypatch):
    """And what may be read and written is told of each."""
    monkeypatch.setattr(module, "_MOST_READY", 2)
    pairs = [socket.socketpair() for _ in range(5)]
    read, written = [], set()
    for number, (near, far) in enumerate(pairs):
        near.send(b"x")
        loop.watch(
            far, lambda number=number, far=far: read.append((number, far.recv(1))), lambda n=number: written.add(n)
        )
    assert loop.wait_until(lambda: len(read) == len(written) == 5, 5)
    assert sorted(read) == [(number, b"x") for number in range(5)]
    for near, far in pairs:
        loop.forget(far)
        near.close()
        far.close()


def test_a_descriptor_that_is_open_in_a_copy_only_is_passed_over(loop):
    """Closed, then forgotten: epoll knows the copy, and tells of it by the old number."""
    near, far = socket.socketpair()
    called = []
    with near, far.dup():
        loop.watch(far, lambda: called.append("readable"))
        far.close()
        loop.forget(far)
        near.send(b"x")
        loop.sleep(0.01)
    assert called == []


def test_what_is_forgotten_is_not_called_in_the_same_turn(loop):
    """Three are ready, and the first call forgets the second one and watches the third otherwise."""
    pairs = [socket.socketpair() for _ in range(3)]
    (first, _), (second, _), (third, _) = pairs
    called = []

    def only_once():
        called.append("first")
        loop.forget(first)
        loop.forget(second)
        loop.watch(third, writable=lambda: (called.append("third is writable"), loop.forget(third)))

    for near, far in pairs:
        far.send(b"x")
        loop.watch(near, lambda: called.append("stale"))
    loop.watch(first, only_once)
    assert loop.wait_until(lambda: not loop._selector.get_map(), 5)
    assert called == ["first", "third is writable"]
    for near, far in pairs:
        near.close()
        far.close()


def test_a_signal_is_handled_while_the_loop_waits(loop):
    """The wait goes on after it, or ends with what its handler raises."""
    heard = []

    def hear(number, frame):
        heard.append(number)
        if len(heard) == 2:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, hear)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        at_s = loop.now_s + 0.05
        assert loop.sleep_until(at_s) >= at_s
        assert heard == [signal.SIGALRM]
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(KeyboardInterrupt):
            loop.wait_until(lambda: False, 30)
    finally:
        signal.signal(signal.SIGALRM, before)
