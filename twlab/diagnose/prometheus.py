"""Writes a diagnosis for the node exporter's textfile collector."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from twlab.diagnose.diagnosis import Diagnosis, Part
from twlab.diagnose.pool import Pool
from twlab.errors import CapabilityError

_HELP = {
    "twlab_pool_ports_taken": "Ports that a new connection of this pool cannot have.",
    "twlab_pool_ports_total": "Ports of ip_local_port_range, less the reserved ones.",
    "twlab_pool_sockets": "Sockets of the pool, by state.",
    "twlab_pool_closes_per_second": "Sockets that entered TIME_WAIT, a second, dated by their timers.",
    "twlab_pool_ceiling_per_second": "Closes a second for which the ports suffice; its part where pools share them.",
    "twlab_pool_full_seconds": "Seconds until the last port is taken at the present rate; +Inf: never.",
    "twlab_pool_binds_first": "Whether its program calls bind() before connect(): 1, 0; absent: unknown.",
    "twlab_pools_more": "Pools that have no series of their own, being less full.",
    "twlab_sockets": "TCP sockets of the network namespace, by state.",
    "twlab_findings": "Findings of this cause and weight.",
}


def text(diagnosis: Diagnosis, most: int = 50) -> str:
    """Return the metrics, with HELP and TYPE.

    Args:
        most: pools of each namespace that get series.
    """
    lines: dict[str, list[str]] = {name: [] for name in _HELP}
    for part in diagnosis.parts:
        for name, labels, value in _samples(part, most):
            written = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
            lines[name].append(f"{name}{{{written}}} {'+Inf' if value is None else f'{value:.10g}'}")
    return "".join(
        f"# HELP {name} {_HELP[name]}\n# TYPE {name} gauge\n" + "\n".join(found) + "\n"
        for name, found in lines.items()
        if found
    )


def write(diagnosis: Diagnosis, path: Path) -> None:
    """Write the metrics to `path` in one step.

    Raises:
        CapabilityError: the file cannot be written (``cannot-write``).
    """
    passing = path.parent / f".{path.name}.{os.getpid()}"
    try:
        if not path.name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        passing.write_text(text(diagnosis))
        passing.chmod(0o644)
        passing.replace(path)
    except OSError as error:
        with suppress(OSError):
            passing.unlink()
        raise CapabilityError(
            f"cannot write {path}: {error.strerror}", "name a file in a folder that you may write to", "cannot-write"
        ) from error


def _samples(part: Part, most: int) -> Iterator[tuple[str, dict[str, str], float | None]]:
    place = {"netns": part.place.name}
    for state, count in part.measured.states.items():
        yield "twlab_sockets", {**place, "state": state}, count
    for pool in part.measured.pools[:most]:
        yield from _pool(
            pool, {**place, "source": pool.source, "destination": pool.destination, "port": str(pool.port)}
        )
    yield "twlab_pools_more", place, part.measured.others + max(0, len(part.measured.pools) - most)
    counts: dict[tuple[str, str], int] = {}
    for finding in part.findings:
        counts[finding.cause, finding.weight] = counts.get((finding.cause, finding.weight), 0) + 1
    for (cause, weight), count in counts.items():
        yield "twlab_findings", {**place, "cause": cause, "weight": weight}, count


def _pool(pool: Pool, labels: dict[str, str]) -> Iterator[tuple[str, dict[str, str], float | None]]:
    yield "twlab_pool_ports_taken", labels, pool.taken
    yield "twlab_pool_ports_total", labels, pool.capacity
    for state, count in pool.states.items():
        yield "twlab_pool_sockets", {**labels, "state": state}, count
    yield "twlab_pool_closes_per_second", labels, pool.rate_per_s
    if pool.ceiling_per_s is not None:
        yield "twlab_pool_ceiling_per_second", labels, pool.ceiling_per_s
    yield "twlab_pool_full_seconds", labels, pool.forecast.full_in_s if pool.forecast else None
    if pool.bind.verdict in ("yes", "no"):
        yield "twlab_pool_binds_first", labels, float(pool.binds)


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
