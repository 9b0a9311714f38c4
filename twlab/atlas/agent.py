"""The agent inside a boot of the atlas: measures columns of one program.

Its request is ``{"subject": name, "columns": names, "seed": ..., "engine": ...}``. Its events are
``cell``, with ``column`` and ``facts`` or ``error``, and ``end``.
"""

from __future__ import annotations

import os
from typing import Any

from twlab.atlas.columns import COLUMNS
from twlab.atlas.programs import subjects
from twlab.engines.protocol import OnEvent
from twlab.errors import LabError


def carry_out(request: dict[str, Any], emit: OnEvent) -> None:
    """Measure the columns of `request`; emits an event ``cell`` for each."""
    subject = subjects()[request["subject"]]
    for column in COLUMNS:
        if column.name not in request["columns"] or not column.applies(subject):
            continue
        cell: dict[str, Any] = {"event": "cell", "column": column.name, "kernel": " ".join(os.uname()[2:5])}
        try:
            cell["facts"] = column.measure(subject, str(request["seed"]), request["engine"] == "host")
        except LabError as error:
            cell["error"] = error.as_dict()
        emit(cell)
    emit({"event": "end"})
