"""Drives a ceiling's boots: a boot for each case, one answer, the event ``row``."""

from __future__ import annotations

from typing import Any

from twlab.engines.guest.engine import LARGE_TABLES, Guest
from twlab.engines.pool import Answer
from twlab.engines.protocol import Event
from twlab.engines.scratch import scratch_folder

AGENT = "twlab.studies.ceiling.agent"
_REAL_LIMIT_S = 900.0


def carry_out(task: dict[str, Any], answer: Answer) -> None:
    """Measure the case of `task`, ``{"case": the fields of a Case, "seed": ...}``.

    Raises:
        CapabilityError, EngineError: as `twlab.engines.guest.engine.Guest.run`.
    """

    def on_event(event: Event) -> None:
        if event["event"] == "row":
            answer(event)

    with scratch_folder() as folder:
        guest = Guest(agent=AGENT, silence_s=_REAL_LIMIT_S, more=LARGE_TABLES)
        guest.run(task, folder, on_event, _REAL_LIMIT_S)
