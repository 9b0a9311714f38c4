"""`twlab observe` beside tshark and tcptrace: CPU time and memory over the same generated capture,
in one run.

    .venv/bin/python benchmarks/observe.py [--packets MILLIONS] [--rounds N] [--lengths MILLIONS ...]

A capture of FIN exchanges, four-tuples that are used again after 2 to 90 s, and 0.1 % late copies, 2
million packets by default; as pcap, pcapng and gzip. In turns; the median of N rounds, default 3.
Asked for are: at most 1/15 of the CPU time of `tshark -T fields` with the tcp.analysis fields, at
most 0.8 of `tcptrace -b`, pcapng and gzip at most twice pcap, at most 0.4 of tcptrace's memory.
Then captures of 1 and 10 million packets (`--lengths 1 10 100` for more) are made on the fly and
piped: memory is to be flat in the length, and CPU time linear. On a busy machine only the ratios
say something.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from planted import Plan, pcap, pcapng  # noqa: E402

TUPLES, PER_WINDOW = 14_961, 503_000  # packets in 60 s
COPIES = 0.0015  # of the segments of which copies can be told: 0.1 % of all packets
AT_MOST = {  # ours / another's, of CPU and of memory
    ("pcap", "tcptrace -b"): (0.8, 0.4),
    ("pcap", "tshark -T fields"): (1 / 15, None),
    ("pcapng", "twlab observe, pcap"): (2.0, None),
    ("pcap.gz", "twlab observe, pcap"): (2.0, None),
}
FIELDS = (
    "frame.number",
    "tcp.stream",
    "tcp.analysis.retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.duplicate_ack",
    "tcp.analysis.lost_segment",
    "tcp.analysis.reused_ports",
)


def measured(command: list[str], stdin: int | None = None) -> tuple[float, float]:
    """CPU seconds and resident megabytes of a command that succeeds."""
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def observe(*words: str) -> list[str]:
    return [sys.executable, "-m", "twlab", "observe", *words]


def plan(millions: float) -> Plan:
    return Plan(tuples=TUPLES, windows=max(1, round(millions * 1e6 / PER_WINDOW)), copies=COPIES)


def write(paths: dict[str, str], millions: float) -> None:
    """Write the capture in all forms."""
    with open(paths["pcap"], "wb") as file:  # noqa: PTH123
        made = pcap(plan(millions), file.write)
    with open(paths["pcapng"], "wb") as file:  # noqa: PTH123
        pcapng(plan(millions), file.write)
    with open(paths["pcap"], "rb") as source, gzip.open(paths["pcap.gz"], "wb", 1) as packed:  # noqa: PTH123
        shutil.copyfileobj(source, packed, 1 << 20)
    print(
        f"{made.frames:,} packets, {made.connections:,} connections, {len(made.planted):,} late copies, "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def compare(millions: float, rounds: int) -> bool:
    """The table of all tools, and whether the ratios are as asked for."""
    fields = [word for field in FIELDS for word in ("-e", field)]
    with tempfile.TemporaryDirectory() as folder:
        paths = {form: f"{folder}/x.{form}" for form in ("pcap", "pcapng", "pcap.gz")}
        # In a process of its own: what is started counts the memory of the one that starts it as its own.
        maker = multiprocessing.get_context("spawn").Process(target=write, args=(paths, millions))
        maker.start()
        maker.join()
        assert not maker.exitcode
        commands = {f"twlab observe, {form}": observe(path) for form, path in paths.items()}
        commands["tcptrace -b"] = ["tcptrace", "-b", paths["pcap"]]
        commands["tshark -T fields"] = ["tshark", "-n", "-r", paths["pcap"], "-T", "fields", *fields]
        commands = {name: command for name, command in commands.items() if shutil.which(command[0])}
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(rounds):
            for name, command in commands.items():
                if name != "tshark -T fields" or not number:  # it takes twenty times as long: once
                    took[name].append(measured(command))
    for name, times in took.items():
        cpu_s, resident = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:24} {cpu_s:7.2f} s CPU  {resident:6.0f} MB")
    good = True
    for (form, other), limits in AT_MOST.items():
        ours = took[f"twlab observe, {form}"]
        for number, (what, limit) in enumerate(zip(("CPU", "memory"), limits, strict=True)):
            if limit is None or other not in took:
                continue
            pairs = zip(ours, took[other], strict=False)
            ratio = statistics.median(one[number] / another[number] for one, another in pairs)
            good &= ratio <= limit
            print(f"{form:8} / {other:20} {what:6} {ratio:6.3f}, at most {limit:.3f} is asked for")
    return good


def lengths(sizes: list[float]) -> None:
    """CPU time and memory by the length of the capture, for the same number of four-tuples."""
    for millions in sizes:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            with os.fdopen(writing, "wb") as file:
                pcap(plan(millions), file.write)
            os._exit(0)
        os.close(writing)
        cpu_s, resident = measured(observe("-"), reading)
        os.close(reading)
        os.waitpid(child, 0)
        packets = plan(millions).windows * PER_WINDOW / 1e6
        print(
            f"{packets:6.1f} million packets  {cpu_s:7.1f} s CPU, {cpu_s / packets:.2f} a million  {resident:6.0f} MB",
            flush=True,
        )


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--packets", type=float, default=2)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--lengths", type=float, nargs="*", default=[1, 10])
    chosen = words.parse_args()
    good = compare(chosen.packets, chosen.rounds) if chosen.packets else True
    lengths(chosen.lengths)
    sys.exit(not good)


if __name__ == "__main__":
    main()
