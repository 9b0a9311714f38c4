"""A warm guest: booted, its agent imported, and stopped until its request comes.

It is for one request. What a guest is before its request does not depend on when the request comes:
its clock stands still, as it does while anything in it computes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from twlab.engines.events import EventReader
from twlab.engines.guest.diagnosis import fault
from twlab.engines.guest.process import GuestProcess
from twlab.engines.protocol import Event, OnEvent
from twlab.errors import EngineError


class WarmGuest:
    """A guest that waits for its one request.

    `twlab.engines.guest.engine.Guest.warm` makes it.

    Attributes:
        seed: of its kernel.
    """

    def __init__(self, guest: GuestProcess, output: int, seed: int, silence_s: float):
        self.seed = seed
        self._guest = guest
        self._output = output
        self._silence_s = silence_s
        self._on_event: OnEvent = lambda event: None
        self._reader = EventReader(self._heard)
        self._ready = False

    @property
    def alive(self) -> bool:
        """Whether it is still there."""
        return self._guest.process.poll() is None

    def boot(self, real_limit_s: float) -> None:
        """Wait until it is ready for a request, and stop it.

        Raises:
            EngineError: it did not come up; see `twlab.engines.guest.engine.Guest.run`.
        """
        self._follow(real_limit_s, lambda: self._ready)
        self._guest.stop()

    def run(self, request: Mapping[str, Any], on_event: OnEvent, real_limit_s: float) -> None:
        """Carry out `request`; call `on_event` for each event, as it comes.

        It returns with the event ``end``, and does not wait until the guest has switched itself
        off.

        Raises:
            EngineError: as `twlab.engines.guest.engine.Guest.run`.
        """
        self._on_event = on_event
        self._guest.give(request)
        self._follow(real_limit_s, lambda: self._reader.ended)
        concluded(self._output, 0, self._reader)

    def _follow(self, real_limit_s: float, until: Callable[[], bool]) -> None:
        status = self._guest.follow(self._reader, real_limit_s=real_limit_s, silence_s=self._silence_s, until=until)
        if status is not None:
            concluded(self._output, status, self._reader)

    def _heard(self, event: Event) -> None:
        if event["event"] == "ready":
            self._ready = True
        else:
            self._on_event(event)


def concluded(output: int, status: int | None, reader: EventReader) -> str:
    """Return the console's text of a guest that has ended.

    Args:
        output: file descriptor of the console's log.
        status: exit status of the guest.
        reader: of its events.

    Raises:
        EngineError: the guest has not ended as it should.
    """
    text = os.pread(output, os.fstat(output).st_size, 0).rstrip(b"\0").decode(errors="replace")
    if found := fault(text, status or 0, garbled=reader.garbled, ended=reader.ended):
        raise EngineError(found.message, slug=found.slug)
    return text
