"""Diagnoses a text that was pasted, in a process of its own.

It takes seconds where all ports are taken. The task is ``{"form"}``, the form as the browser sent
it; the answer is ``{"text", "parts"}``, each part as `twlab.diagnose.diagnosis.Part.as_dict`. There
are none where nothing in the text is known.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from twlab.diagnose.diagnosis import diagnose
from twlab.diagnose.texts.assemble import Text, snapshot
from twlab.engines.pool import Answer

_LONGEST_LINE = 2000  # characters of what was pasted


def carry_out(task: dict[str, Any], answer: Answer) -> None:
    """Carry out `task`."""
    text = dict(parse_qsl(task["form"])).get("text", "")
    found = diagnose(snapshot([Text("pasted", [line[:_LONGEST_LINE] for line in text.splitlines()])], "your text"))
    places = [part.place for part in found.parts]
    known = any(place.socket_source or place.counters or place.settings for place in places)
    answer({"text": text, "parts": [part.as_dict() for part in found.parts] if known else []})
