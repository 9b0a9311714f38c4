"""Measures ceilings in lab kernels: raises the rate of new connections until one fails.

How a ceiling is found. A first load, far above it or at the rate that is claimed, tells how many
connections opened before one failed, and how long it took until the first port came back. Their
quotient is a guess, made of what was seen and of nothing else. Then the guess is put to the test:
slightly less, until the ports in use have stopped to grow and a quarter of that time more, without
one failure; then slightly more, until a connect fails. Where the guess was wrong, the test goes
down or up until it has a rate at which none fails and one, a hundredth above, at which one does.
What it costs is connections, not seconds: the lab kernel's time is virtual.

Each case has a boot of its own, as many side by side as there are processors. This module is the
agent in the lab kernel, and also the program that drives a boot (`twlab.engines.pool`): one answer,
the row.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twlab.engines import pool
from twlab.errors import EngineError, LabError
from twlab.lab.assembly import assemble_nodes
from twlab.linux.sockstat import Sockstat
from twlab.loop import Loop
from twlab.network import Node, load_topology
from twlab.settings import Settings
from twlab.studies.ceiling.cases import Case
from twlab.traffic.load_client import Load, LoadClient, LoadServer, PortChoice

Emit = Callable[[dict[str, Any]], None]

_STEP = 0.005  # by how much below and above the guess is tried; two steps are the gap that is left in the end
_MOST_TRIALS = 12
_SETTLED = 1.25  # after so many times the hold of a port, the ports in use have long stopped to grow
_ENOUGH = 2.2  # where so many times the number of ports were opened and none failed, there is no ceiling
_LOOK_S = 0.01  # between two looks for the first port that comes back
_REAL_LIMIT_S = 900.0
_HASH = "thash_entries=65536"  # as a machine of 8 GB has; from the guest's little memory Linux would make 4,096, and each search for a port long


class Opener:
    """Opens connections from `node` to `targets` as `case` says, in one trial after the other.

    Attributes:
        trials: what became of each, as JSON values.
    """

    def __init__(self, case: Case, node: Node, targets: Sequence[tuple[str, int]], loop: Loop):
        self.case = case
        self.trials: list[dict[str, Any]] = []
        self._node, self._targets, self._loop = node, targets, loop
        self._sockets = Sockstat(node)
        self._tick_s = min(0.05, max(0.01, 20 / case.first_per_s))  # until it is known how long a port is held

    def run(self, rate_per_s: float, duration_s: float) -> dict[str, Any]:
        """One load, ended by its first failure."""
        case = self.case
        load = Load(
            rate_per_s=rate_per_s,
            duration_s=duration_s,
            targets=self._targets,
            ports=case.choice,
            port_range=(case.port_low, case.port_high),
            opener_closes=case.opener_closes,
            tick_s=self._tick_s,
            timed=False,
        )
        churn = LoadClient(self._node, self._loop, load)
        self._loop.wait_until(lambda: churn.done or churn.counts.first_failure_s is not None)
        churn.stop()
        tally = churn.counts.as_dict()
        most = max(second["in_time_wait"] for second in tally["seconds"])
        told = {name: tally[name] for name in ("attempted", "connected", "failed", "first_failure_s")}
        self.trials.append(
            {"rate_per_s": round(rate_per_s, 2), "duration_s": round(duration_s, 3), **told, "most_in_time_wait": most}
        )
        return self.trials[-1]

    def first_look(self) -> tuple[int, float]:
        """Connections opened before the first failure, and seconds from the first connection until
        the first port came back; 0.0: none failed.
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
        self._tick_s = hold_s / 1000
        return trial["connected"], hold_s

    def drain(self) -> None:
        """Wait until no port is in use."""
        while self._sockets.time_wait():
            self._loop.sleep(1)

    def close(self) -> None:
        """Let go of the node."""
        self._sockets.close()


def measure(opener: Opener) -> dict[str, Any]:
    """The measured part of a row, see `twlab.studies.ceiling.cases`."""
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


def carry_out(request: dict[str, Any], emit: Emit) -> None:
    """In the lab kernel: one case."""
    case = Case(**{**request["case"], "choice": PortChoice(request["case"]["choice"])})
    topology = load_topology(f"proxy,servers={case.origins}")
    names = [name for name in topology.nodes() if name not in ("client", "wire")]
    settings = Settings(time_wait_s=case.time_wait_s, port_low=case.port_low, port_high=case.port_high)
    with assemble_nodes(topology, dict.fromkeys(names, settings)) as (loop, network):
        proxy, servers = network["proxy"], [network[name] for name in names if name != "proxy"]
        if case.to_the_tick:  # the constant is not kept to the tick, the sysctl is, of the same length too
            for node in (proxy, *servers):
                node.write_sysctl("net.ipv4.tcp_timewait_len", round(case.time_wait_s * 1000))
        origins = [LoadServer(server, loop, responses=0 if case.opener_closes else 1) for server in servers]
        opener = Opener(case, proxy, [(server.address(), 80) for server in servers], loop)
        row = {**case.as_dict(), **measure(opener)}
        opener.close()
        for origin in origins:
            origin.close()
        at_servers = [Sockstat(server) for server in servers]
        row["server_in_time_wait"] = max(sockets.time_wait() for sockets in at_servers)
        emit({"event": "row", "row": row, "kernel": " ".join(os.uname()[2:5])})
    emit({"event": "end"})


def measure_all(wanted: Sequence[Case], *, seed: int, jobs: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Measure every case, the costly ones first; yields index and event (``row`` and ``kernel``, or
    ``error``) as they are done.

    Args:
        seed: of the lab kernels.
        jobs: boots side by side.
    """
    order = sorted(range(len(wanted)), key=lambda index: -_cost(wanted[index]))
    processors = sorted(os.sched_getaffinity(0))
    taken: dict[int, int] = {}  # by the number of the request that runs there

    def requests() -> Iterator[dict[str, Any]]:
        for number, index in enumerate(order):
            taken[number] = min(processors, key=list(taken.values()).count)
            yield {"case": dataclasses.asdict(wanted[index]), "seed": seed, "processor": taken[number]}

    told: dict[int, dict[str, Any]] = {}
    for number, answer in pool.answers("twlab.studies.ceiling.search", requests(), jobs):
        if isinstance(answer, pool.Ended):
            del taken[number]
            yield order[number], told.pop(number, {"error": str(answer)})
        else:
            told[number] = answer


def _cost(case: Case) -> float:
    """Roughly, in connections. Where the kernel chooses alone, half of them cost a search through
    all even ports.
    """
    return (
        case.ports * case.origins * (5 if case.choice is PortChoice.CONNECT else 1) * (2 if not case.to_the_tick else 1)
    )


def main() -> None:
    """Measure the case on standard input in a boot; end with the process that started us."""
    from twlab.engines.guest.engine import Guest

    request = pool.request()
    os.sched_setaffinity(
        0, {request["processor"]}
    )  # a guest stays on one processor; side by side they are to have one each
    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="twlab-") as folder:
        try:
            guest = Guest(agent="twlab.studies.ceiling.search", silence_s=_REAL_LIMIT_S, more=(_HASH,))
            guest.run(request, Path(folder), answers.append, _REAL_LIMIT_S)
            pool.answer(next(event for event in answers if event["event"] == "row"))
        except (EngineError, LabError) as error:
            pool.answer({"error": str(error)})


if __name__ == "__main__":
    main()
