"""Finds a ceiling: raises the rate of new connections until one fails.

How a ceiling is found:

1. A first load, far above the ceiling or at the rate that is claimed. It gives the number of
   connections opened before the first failure, and the time until the first port came back. Their
   quotient is a guess, made of what was measured and of nothing else.
2. A load slightly below the guess, until the ports in use have stopped to grow and a quarter of
   that time more, without one failure.
3. A load slightly above, until a connect fails.
4. Where the guess was wrong, the next load goes down or up, until there is a rate at which none
   fails and one, a hundredth above, at which one does.

The cost is connections, not seconds: the lab kernel's time is virtual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twlab.linux.sockstat import Sockstat
from twlab.loop import Loop
from twlab.network import Node
from twlab.studies.ceiling.cases import Case
from twlab.traffic.load_client import Load, LoadClient

_STEP = 0.005  # how far below and above the guess is tried; two steps are the gap that is left
_MOST_TRIALS = 12
_SETTLED = 1.25  # times the hold of a port: by then the ports in use have long stopped to grow
_ENOUGH = 2.2  # times the number of ports opened without a failure: there is no ceiling
_TICKS = 500  # in the hold of a port: the arrivals of one, 0.2 % of the ports, fit into what a step leaves free
_LOOK_S = 0.01  # between two looks for the first port that comes back


class Opener:
    """Opens connections from `node` to `targets` as `case` says, trial by trial.

    Attributes:
        trials: the result of each, as JSON values.
    """

    def __init__(self, case: Case, node: Node, targets: Sequence[tuple[str, int]], loop: Loop):
        self.case = case
        self.trials: list[dict[str, Any]] = []
        self._node, self._targets, self._loop = node, targets, loop
        self._sockets = Sockstat(node)
        self._tick_s = min(0.05, max(0.01, 20 / case.first_per_s))  # until it is known how long a port is held

    def run(self, rate_per_s: float, duration_s: float) -> dict[str, Any]:
        """Run one load, ended by its first failure."""
        case = self.case
        load = Load(
            rate_per_s=rate_per_s,
            duration_s=duration_s,
            targets=self._targets,
            ports=case.choice,
            port_range=(case.port_low, case.port_high),
            opener_closes=case.opener_closes,
            tick_s=self._tick_s,
            to_first_failure=True,
            timed=False,
        )
        tally = LoadClient(self._node, self._loop, load).run().as_dict()
        most = max(second["in_time_wait"] for second in tally["seconds"])
        counts = {name: tally[name] for name in ("attempted", "connected", "failed", "first_failure_s")}
        self.trials.append(
            {
                "rate_per_s": round(rate_per_s, 2),
                "duration_s": round(duration_s, 3),
                **counts,
                "most_in_time_wait": most,
            }
        )
        return self.trials[-1]

    def first_look(self) -> tuple[int, float]:
        """Run the first load, and measure how long a port is held.

        Returns:
            Connections opened before the first failure, and seconds from the first connection until
            the
            first port came back; 0.0: no connect failed.
        """
        began_s = self._loop.now_s
        rate_per_s = self.case.first_per_s
        trial = self.run(rate_per_s, _ENOUGH * self.case.ports * self.case.origins / rate_per_s)
        if trial["first_failure_s"] is None:
            return trial["connected"], 0.0
        full = self._sockets.time_wait()
        while self._sockets.time_wait() >= full:
            self._loop.sleep(_LOOK_S)
        hold_s = self._loop.now_s - began_s
        self._tick_s = hold_s / _TICKS
        return trial["connected"], hold_s

    def drain(self) -> None:
        """Wait until no port is in use."""
        while self._sockets.time_wait():
            self._loop.sleep(1)

    def close(self) -> None:
        """Let go of the node."""
        self._sockets.close()


def measure(opener: Opener) -> dict[str, Any]:
    """Return the measured part of a row, see `twlab.studies.ceiling.cases`."""
    opened, hold_s = opener.first_look()
    found: dict[str, Any] = {
        "sustained_per_s": None,
        "failing_per_s": None,
        "opened_before": opened,
        "first_back_s": round(hold_s, 3) or None,
    }
    if not hold_s:
        return {
            **found,
            "sustained_per_s": opener.case.first_per_s,
            "error": "",
            "opened_before": None,
            "trials": opener.trials,
        }
    opener.drain()
    factor = 1 - _STEP
    while len(opener.trials) < _MOST_TRIALS and not (found["sustained_per_s"] and found["failing_per_s"]):
        rate_per_s = factor * opened / hold_s
        trial = opener.run(rate_per_s, (_SETTLED if found["sustained_per_s"] is None else 1.0) * hold_s)
        if trial["first_failure_s"] is None:
            found["sustained_per_s"] = round(rate_per_s, 2)
            factor += 2 * _STEP
        else:
            found["failing_per_s"] = round(rate_per_s, 2)
            factor -= 2 * _STEP
            opener.drain()
    return {**found, "error": next(iter(opener.trials[0]["failed"])), "trials": opener.trials}
