"""The lab's one clock and its one event loop.

Everything in a lab happens in one thread: the wire takes segments off the netfilter queue, servers
answer, timers release what was held, and the scenario's own steps run, all from here. One thread is
not a shortcut. In the lab kernel's virtual time a hand-over of Python's interpreter lock between
threads costs 5 ms of *virtual* time, which would stand in every measurement; and a scenario that
runs in one thread has one order of events, the same each time.

A scenario's verbs are ordinary blocking calls. Each of them waits with `Loop.wait_until`, and while
it waits the loop serves all other parts. This is the only module that reads a clock.
"""

from __future__ import annotations

import ctypes
import errno
import heapq
import itertools
import math
import os
import select
import selectors
import time
from collections.abc import Callable
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_MOST_READY = 1024  # in one look; what else is ready comes with the next


class _Event(ctypes.Structure):
    """struct epoll_event, of which x86-64 has a packed one (include/uapi/linux/eventpoll.h)."""

    _fields_ = (
        ("events", ctypes.c_uint32),
        ("_padding", ctypes.c_uint32 * (os.uname().machine != "x86_64")),
        ("fd", ctypes.c_int32),
        ("_unused", ctypes.c_uint32),
    )


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _ReadySelector(selectors.EpollSelector):
    """An epoll selector that waits to the nanosecond, in one system call.

    Epoll by itself counts in milliseconds, and a step that began a millisecond late would show in
    every figure. Python's `select` and `poll` read the clock each time, even without a wait; in the
    lab kernel a reading is a system call. epoll_pwait2(2) has come with Linux 5.11 and glibc 2.35;
    without it select(2) does the waiting.
    """

    _wait = getattr(_libc, "epoll_pwait2", None)

    def __init__(self) -> None:
        super().__init__()
        self._events = (_Event * _MOST_READY)()
        self._limit = _Timespec()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for `timeout` seconds at most; list what is ready, and for what."""
        if self._wait is None:
            at_once = timeout == 0.0 or select.select([self], [], [], timeout)[0]
            return super().select(0) if at_once else []
        if timeout is not None:
            self._limit.seconds, self._limit.nanoseconds = divmod(math.ceil(timeout * 1e9), 10**9)
        limit = None if timeout is None else ctypes.byref(self._limit)
        count = self._wait(self.fileno(), self._events, _MOST_READY, limit, None)
        if count < 0:
            number = ctypes.get_errno()
            if number == errno.ENOSYS:
                self._wait = None
                return self.select(timeout)
            if number != errno.EINTR:  # a signal: its handler is called before the next statement
                raise OSError(number, os.strerror(number))
        ready = []
        keys = self.get_map()
        for event in self._events[: max(count, 0)]:
            if (key := keys.get(event.fd)) is None:
                continue  # closed here and open in a copy: epoll tells of it as long as that is so
            readable = selectors.EVENT_READ if event.events & ~select.EPOLLOUT else 0
            writable = selectors.EVENT_WRITE if event.events & ~select.EPOLLIN else 0
            ready.append((key, (readable | writable) & key.events))
        return ready


def monotonic_s() -> float:
    """Seconds on the clock that timers use.

    Virtual time in the lab kernel, real time on the host.
    """
    return time.monotonic()


def wall_s() -> float:
    """Seconds since 1970, by the real-time clock.

    Files in pcapng and Linux's initial sequence numbers use it.
    """
    return time.time()


def cpu_s() -> float:
    """Seconds of processor time that this process has used."""
    return time.process_time()


class Timer:
    """A call that is due at `at_s`; `cancel()` withdraws it."""

    __slots__ = ("at_s", "call", "cancelled")

    def __init__(self, at_s: float, call: Callable[[], object]):
        self.at_s = at_s
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Serves file descriptors and timers while a verb of the scenario waits.

    Time here is `now_s`, seconds since the loop was made.
    """

    def __init__(self) -> None:
        self._selector = _ReadySelector()
        self._numbers: set[int] = set()  # file descriptors that the selector knows
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._epoch_s = monotonic_s()

    @property
    def now_s(self) -> float:
        """Seconds since this loop was made."""
        return monotonic_s() - self._epoch_s

    def call_at(self, at_s: float, call: Callable[[], object]) -> Timer:
        """Call `call()` once `now_s` has reached `at_s`.

        Calls due at the same time run in the order in which they were made.
        """
        timer = Timer(at_s, call)
        heapq.heappush(self._timers, (at_s, next(self._order), timer))
        return timer

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        """Call `call()` after `delay_s` seconds."""
        return self.call_at(self.now_s + delay_s, call)

    def watch(
        self, fd: Any, readable: Callable[[], object] | None = None, writable: Callable[[], object] | None = None
    ) -> None:
        """Call `readable()` or `writable()` whenever `fd` is.

        The calls replace those of an earlier `watch` of `fd`. Without either, forget `fd`.
        """
        events = (selectors.EVENT_READ if readable else 0) | (selectors.EVENT_WRITE if writable else 0)
        number = fd if isinstance(fd, int) else fd.fileno()
        # Of what it does not know the selector words an error, and asks a socket for its addresses.
        known = number in self._numbers if number >= 0 else fd in self._selector.get_map()
        if not events:
            if known:
                self._numbers.discard(self._selector.unregister(fd).fd)
        elif known:
            self._selector.modify(fd, events, (readable, writable))
        else:
            self._numbers.add(self._selector.register(fd, events, (readable, writable)).fd)

    def forget(self, fd: Any) -> None:
        """Stop watching `fd`, before it is closed.

        It does nothing if `fd` is not watched.
        """
        self.watch(fd)

    def turn(self, until_s: float | None = None) -> float:
        """Serve what is ready and due, after a sleep until something is.

        Args:
            until_s: the end of the sleep at the latest; None: no end.

        Returns:
            The time up to which all that was due has been served.
        """
        limits = [limit for limit in (until_s, self._next_timer_s()) if limit is not None]
        timeout = max(0.0, min(limits) - self.now_s) if limits else None
        self._serve_ready(timeout)
        return self._serve_due()

    def _serve_due(self) -> float:
        """Call the timers that are due; return the time up to which that is."""
        now = self.now_s
        fired = False
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.call()
                fired = True
        if fired:
            self._serve_ready()
        return now

    def wait_until(
        self, condition: Callable[[], object], timeout_s: float | None = None, look_s: float | None = None
    ) -> bool:
        """Serve until `condition()` is true; return whether it was.

        Args:
            timeout_s: the longest wait; None: no limit.
            look_s: the condition is looked at after each event, and once this time has passed
                without one; None: after events alone.
        """
        now_s = 0.0 if timeout_s is None and look_s is None else self.now_s
        deadline_s = math.inf if timeout_s is None else now_s + timeout_s
        while not condition():
            if now_s >= deadline_s:
                return False
            # What is waited for has mostly come already: then there is no sleep to be reckoned.
            if self._serve_ready():
                now_s = self._serve_due()
            else:
                until_s = deadline_s if look_s is None else min(deadline_s, now_s + look_s)
                now_s = self.turn(None if until_s == math.inf else until_s)
        return True

    def sleep_until(self, at_s: float) -> float:
        """Serve until `now_s` has reached `at_s`; return the time then.

        Everything due by `at_s` has been served when it returns.
        """
        while (now_s := self.turn(at_s)) < at_s:
            pass
        return now_s

    def sleep(self, duration_s: float) -> None:
        """Serve for `duration_s` seconds."""
        self.sleep_until(self.now_s + duration_s)

    def close(self) -> None:
        """Forget everything; the file descriptors stay with their owners."""
        self._timers.clear()
        self._selector.close()

    def _serve_ready(self, timeout_s: float | None = 0.0) -> bool:
        """Serve what is ready, or becomes so in time; return whether anything was."""
        found = self._selector.select(timeout_s)
        known = self._selector.get_map()
        for key, events in found:
            for which, event in enumerate((selectors.EVENT_READ, selectors.EVENT_WRITE)):
                if not events & event:
                    continue
                # A call before this one may have forgotten the descriptor, or watch it otherwise.
                now = known.get(key.fd)
                if now and now.fileobj is key.fileobj and (call := now.data[which]):
                    call()
        return bool(found)

    def _next_timer_s(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None
