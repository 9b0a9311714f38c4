"""Drives the boots of the atlas: one for each program, an answer for each column."""

from __future__ import annotations

from typing import Any

from twlab.engines import choose
from twlab.engines.pool import Answer
from twlab.engines.protocol import Event
from twlab.engines.scratch import scratch_folder

AGENT = "twlab.atlas.agent"
_REAL_LIMIT_S = 900.0


def carry_out(task: dict[str, Any], answer: Answer) -> None:
    """Measure the columns of `task`, see `twlab.atlas.agent`.

    Raises:
        CapabilityError, EngineError: of the engine.
    """
    engine = choose(task["engine"], agent=AGENT)

    def on_event(event: Event) -> None:
        if event["event"] == "cell":
            answer({**event, "engine": engine.name})

    with scratch_folder() as folder:
        engine.run({**task, "engine": engine.name}, folder, on_event, _REAL_LIMIT_S)
