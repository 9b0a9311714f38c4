"""Decides which observed facts mean harm.

Harm is done to an application, or to the protection that TIME_WAIT gives. `twlab alternatives` runs
the treatments of these scenarios under the settings of each way out, and looks here whether they
did
harm. A scenario that is not listed is not judged: its treatments do not depend on such settings, or
do no harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Facts = Mapping[str, Any]


class Harm(NamedTuple):
    """What counts as harm.

    Attributes:
        what: it is, in words.
        done: whether the facts show it.
    """

    what: str
    done: Callable[[Facts], bool]


def _some(*names: str) -> Callable[[Facts], bool]:
    return lambda facts: any(facts.get(name, 0) for name in names)


HARM: Mapping[str, Harm] = {
    "stale-data": Harm("bytes of a dead connection are read", _some("foreign_bytes", "bytes_missing", "errors")),
    "stale-data-unrelated-isn": Harm("bytes of a dead connection are read", _some("foreign_bytes")),
    "stale-segment": Harm("bytes of a dead connection are read", _some("harmed")),
    "ack-for-unsent": Harm("foreign bytes are read, or the connection is stuck", _some("foreign_bytes", "left_bytes")),
    "late-ack": Harm("bytes are lost for ever", lambda facts: bool(facts.get("reopened")) and facts.get("read") == 0),
    "late-fin": Harm("a part is taken for the whole", _some("end_of_stream", "client_error")),
    "late-duplicate-syn": Harm(
        "connections that no client asked for",
        lambda facts: facts.get("half_open", 0) > 0 or facts.get("newcomer") == "pending",
    ),
    "old-ack-in-syn-sent": Harm(
        "a connect fails",
        lambda facts: bool(facts.get("opened")) and (facts.get("accepted") != 1 or bool(facts.get("error"))),
    ),
    "lost-last-ack": Harm("the peer is told that its connection broke", _some("error")),
    "overflow": Harm("a repeated FIN is answered by a reset", lambda facts: facts.get("answer_to_fin") == "R"),
    "assassination": Harm("TIME_WAIT ends before its time", _some("ended")),
    "reordered-close": Harm(
        "an error or a wrong stream",
        lambda facts: bool(facts.get("errors")) or facts.get("new_stream", "clean") != "clean",
    ),
    "recycle-nat": Harm("connects fail", _some("failed")),
    "recycle-offsets": Harm("connects fail", _some("failed")),
    "recycle-starvation": Harm("connects fail", _some("refused")),
    "tw-reuse-safe": Harm("bytes of a dead connection are read", _some("foreign_bytes", "bytes_missing")),
    "linger-truncation": Harm("the end of what was sent is lost", _some("missing")),
}
