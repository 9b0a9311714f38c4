"""Drives a ceiling's boots: a boot for each case, one answer, the event ``row``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twlab.engines.guest.engine import Guest
from twlab.engines.pool import Answer
from twlab.engines.protocol import Event

AGENT = "twlab.studies.ceiling.agent"
_REAL_LIMIT_S = 900.0
# As a machine of 8 GB has. From the guest's little memory Linux would make 4,096, and each search
# for a port would be long.
_HASH = "thash_entries=65536"


def carry_out(task: dict[str, Any], answer: Answer) -> None:
    """Measure the case of `task`, ``{"case": the fields of a Case, "seed": ...}``.

    Raises:
        CapabilityError, EngineError: as `twlab.engines.guest.engine.Guest.run`.
    """

    def on_event(event: Event) -> None:
        if event["event"] == "row":
            answer(event)

    with tempfile.TemporaryDirectory(prefix="twlab-ceiling-") as folder:
        guest = Guest(agent=AGENT, silence_s=_REAL_LIMIT_S, more=(_HASH,))
        guest.run(task, Path(folder), on_event, _REAL_LIMIT_S)
