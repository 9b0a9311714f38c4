"""Reads the events that an agent writes: JSON objects, one a line."""

from __future__ import annotations

import json

from twlab.engines.protocol import OnEvent


class EventReader:
    """Splits what an agent writes into events, and hands on each.

    Args:
        on_event: called with each event.

    Attributes:
        ended: whether the last event was ``end``. After that, any line is garbled.
        within_steps: whether the last event came from within an arm's steps (``entry``, ``pulse``).
    """

    def __init__(self, on_event: OnEvent):
        self._on_event = on_event
        self._rest = b""
        self._garbled = ""
        self.ended = False
        self.within_steps = False

    @property
    def garbled(self) -> str:
        """The first line that is not an event, cut short.

        If all complete lines are events, it is the beginning of an incomplete last line.
        """
        return self._garbled or self._rest[:80].decode(errors="replace")

    def feed(self, data: bytes) -> None:
        """Take the next bytes, and hand on each event that they complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._garbled and not self._take(line):
                self._garbled = line[:80].decode(errors="replace") or "an empty line"

    def quiet(self, real_s: float, doing: str) -> None:
        """Hand on an event ``quiet``: no event came for `real_s` seconds, and why."""
        self._on_event({"event": "quiet", "real_s": real_s, "text": doing})

    def _take(self, line: bytes) -> bool:
        try:
            event = json.loads(line)
        except ValueError:
            return False
        if not isinstance(event, dict) or "event" not in event or self.ended:
            return False
        self.ended = event["event"] == "end"
        self.within_steps = event["event"] in ("entry", "pulse")
        self._on_event(event)
        return True
