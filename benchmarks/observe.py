"""`twlab observe` beside tshark and tcptrace: CPU time and memory over the same generated capture,
in one run.

    .venv/bin/python benchmarks/observe.py [MILLIONS]          2 by default
    .venv/bin/python benchmarks/observe.py --memory [MILLIONS ...]

The first form writes a capture of FIN exchanges, four-tuples that are used again after 2 to 90 s,
and 0.1 % late copies; as pcap, pcapng and gzip. Aims: at most 1/15 of the CPU time of `tshark -T
fields` with the tcp.analysis fields, at most 0.8 of `tcptrace -b`, pcapng and gzip at most twice
pcap, at most 0.4 of tcptrace's memory. The second makes captures of 1, 10 and 100 million packets
on the fly and pipes them: memory is to be flat. On a busy machine only the ratios say something.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from planted import Plan, pcap, pcapng  # noqa: E402

TUPLES, PER_WINDOW = 14_961, 500_000  # packets in 60 s
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


def compare(millions: float) -> None:
    """The table of all tools."""
    plan = Plan(tuples=TUPLES, windows=max(1, round(millions * 1e6 / PER_WINDOW)), copies=0.002)
    with tempfile.TemporaryDirectory() as folder:
        paths = {form: str(Path(folder) / f"x.{form}") for form in ("pcap", "pcapng", "pcap.gz")}
        with open(paths["pcap"], "wb") as file:  # noqa: PTH123
            made = pcap(plan, file.write)
        with open(paths["pcapng"], "wb") as file:  # noqa: PTH123
            pcapng(plan, file.write)
        with open(paths["pcap"], "rb") as source, gzip.open(paths["pcap.gz"], "wb", 1) as packed:  # noqa: PTH123
            shutil.copyfileobj(source, packed, 1 << 20)
        print(
            f"{made.frames:,} packets, {made.connections:,} connections, {len(made.planted):,} late copies, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        rows = {f"twlab observe, {form}": measured(observe(path)) for form, path in paths.items()}
        if shutil.which("tcptrace"):
            rows["tcptrace -b"] = measured(["tcptrace", "-b", paths["pcap"]])
        fields = [word for field in FIELDS for word in ("-e", field)]
        if shutil.which("tshark"):
            rows["tshark -T fields"] = measured(["tshark", "-n", "-r", paths["pcap"], "-T", "fields", *fields])
        ours, memory = rows["twlab observe, pcap"]
        for name, (cpu_s, resident) in rows.items():
            print(
                f"{name:24} {cpu_s:7.1f} s CPU  {resident:6.0f} MB   ours / it: {ours / cpu_s:6.3f} CPU, "
                f"{memory / resident:.2f} memory"
            )


def memory(sizes: list[float]) -> None:
    """Memory by the length of the capture, for the same number of four-tuples."""
    for millions in sizes:
        plan = Plan(tuples=TUPLES, windows=max(1, round(millions * 1e6 / PER_WINDOW)), copies=0.002)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            with os.fdopen(writing, "wb") as file:
                pcap(plan, file.write)
            os._exit(0)
        os.close(writing)
        cpu_s, resident = measured(observe("-"), reading)
        os.close(reading)
        os.waitpid(child, 0)
        print(
            f"{plan.windows * PER_WINDOW / 1e6:6.1f} million packets  {cpu_s:7.1f} s CPU  {resident:6.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    numbers = [float(word) for word in sys.argv[1:] if not word.startswith("--")]
    if "--memory" in sys.argv:
        memory(numbers or [1, 10, 100])
    else:
        compare(numbers[0] if numbers else 2)
