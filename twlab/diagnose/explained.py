"""Explains a symptom with a plan's figures: which of its causes they leave.

The rows are those of `symptom_table`, in the order of `symptoms.find`. Those that contradict the
plan come last, and say by what.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from twlab.diagnose.symptom_table import SYMPTOMS
from twlab.diagnose.symptoms import Symptom, find
from twlab.errors import UsageError
from twlab.planner.demand import ORIGIN, Demand
from twlab.planner.plan import Answer, Plan
from twlab.ports import PortChoice

REST_S = 120  # for which gateways keep a closed connection's port, and conntrack its entry

_BINDS = "bind-first"
_OF_THE_PROXY = ("own-ports", _BINDS)
_TIME_WAIT_AT_THE_ORIGIN = (
    "second-client",
    "flowtable-early-release",
    "few-ports",
    "lost-reset",
    "lost-reset-no-timestamps",
    "lwip-peer",
)


class Cause(NamedTuple):
    """One cause of what is seen.

    Attributes:
        row: the cause.
        fits: the plan's figures leave it.
        note: what they say about it; empty where they say nothing.
    """

    row: Symptom
    fits: bool
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**self.row.as_dict(), "fits": self.fits, "note": self.note}


def explain(plan: Plan, words: Sequence[str]) -> list[Cause]:
    """Return the causes of what is seen, those first that fit `plan`.

    Args:
        words: how long a connect takes (``1s``), an error, a status, words.

    Raises:
        UsageError: none is known (``no-such-symptom``).
    """
    found = find(words, SYMPTOMS)
    if not found:
        raise no_such_symptom(words)
    causes = [_judged(row, plan) for row in found]
    return sorted(causes, key=lambda cause: not cause.fits)


def no_such_symptom(words: Sequence[str]) -> UsageError:
    """Return the error for a symptom without a known cause."""
    return UsageError(
        f"no cause is known for {' '.join(words)!r}",
        "give a duration (1s), an error (EADDRINUSE), a status (504) or words (removed backend); "
        "`twlab symptom` lists all causes",
        "no-such-symptom",
    )


def _judged(row: Symptom, plan: Plan) -> Cause:
    against = _against(row.name, plan)
    return Cause(row, not against, against or _takes(row.name, plan.demand))


def _against(name: str, plan: Plan) -> str:
    """Say by what the plan contradicts the cause; empty: by nothing."""
    demand = plan.demand
    if name in _OF_THE_PROXY:
        binds = demand.choice == PortChoice.BIND
        if binds != (name == _BINDS):
            return f"with --choice {demand.choice} the error is {plan.asked.error or 'none'}"
        if plan.asked.answer(demand.rate_per_s) is Answer.SUFFICES:
            return f"the proxy's ports suffice for {demand.rate_per_s:,.6g} connections a second"
    if name == "lost-reset" and not demand.timestamps:
        return "without timestamps TIME_WAIT is not renewed, and the connect takes 67 s"
    return ""


def _takes(name: str, demand: Demand) -> str:
    """Say what the cause takes to be one here; empty where the plan has nothing to say."""
    conditions = []
    if name in _TIME_WAIT_AT_THE_ORIGIN and demand.closes_first != ORIGIN:
        conditions.append("the origin closed first (with these figures the proxy does)")
    if name == "lost-reset-no-timestamps" and demand.all_timestamps:
        conditions.append("an end has no timestamps (with these figures both have)")
    return f"only where {' and '.join(conditions)}" if conditions else _load(name, demand)


def _load(name: str, demand: Demand) -> str:
    """Say what the load takes of a gateway or balancer between proxy and origins."""
    entries = demand.rate_per_s * (demand.life_s + REST_S)
    share = 1 / demand.origins if demand.busiest is None else demand.busiest
    ports = f"{math.ceil(entries * share):,} ports of a gateway towards the busiest origin"
    if name == "ports-at-rest":
        return f"this load takes {ports}, where they rest for {REST_S} s"
    if name in ("few-ports", "snat-gives-up", "snat-pool"):
        return f"this load takes {ports}, as long as entries last for {REST_S} s"
    if name == "conntrack-full":
        return f"this load takes {math.ceil(entries):,} entries of conntrack, which last for {REST_S} s"
    if name in ("ipvs-drained-server", "ipvs-removed-server", "ipvs-one-server"):
        again_s = demand.ports * demand.sources / demand.rate_per_s
        return f"a client port comes again after {again_s:,.3g} s on average, and the entry lasts for {REST_S} s"
    return ""
