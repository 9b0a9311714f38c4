"""CPU of `twlab diagnose` beside `ss -Htan`, on the same sockets of one network namespace, in one
run.

    .venv/bin/python benchmarks/diagnose.py [ROUNDS]

At 30,000 and 300,000 sockets in TIME_WAIT, closed on loopback. User + system time, less that of the
same command in a namespace without sockets; the diagnosis counts from its last import on. In turns;
the median of ROUNDS (default 5). At most 0.6 of ss is asked for. What ss prints goes to /dev/null;
the diagnosis is made in full, findings included, and not printed. Runs in a sandbox.
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
from pathlib import Path

from sandbox import SANDBOX

SIZES = (30_000, 300_000)
AT_MOST = 0.6
PER_LISTENER = 14_000  # connections: half of the range, so that connect() finds a port at once
DIAGNOSE = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from twlab.diagnose import live
from twlab.diagnose.diagnosis import diagnose
from twlab.loop import cpu_s
began_s = cpu_s()
made = diagnose(live.read(0, only_own=True))
print(sum(part.measured.sockets for part in made.parts), cpu_s() - began_s)
"""
SS = ["ss", "-Htan"]


def main() -> None:
    if sys.argv[1:2] != ["--inside"]:
        sys.exit(
            subprocess.run([*SANDBOX, sys.executable, __file__, "--inside", *sys.argv[1:]], check=False).returncode
        )
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/tcp_max_tw_buckets").write_text("1000000")
    Path("/proc/sys/net/ipv4/tcp_tw_reuse").write_text("0")
    empty = [statistics.median(take()[number] for _ in range(rounds)) for number, take in ((1, ours), (0, theirs))]
    print(f"no sockets         diagnose {empty[0] * 1000:5.0f} ms   ss {empty[1] * 1000:5.0f} ms")
    worst = 0.0
    for size in SIZES:
        worst = max(worst, measured(size, rounds, empty))
    print(f"largest ratio {worst:.2f}, at most {AT_MOST} is asked for")
    sys.exit(worst > AT_MOST)


def measured(size: int, rounds: int, empty: list[float]) -> float:
    """The ratio at `size` sockets, made up to that number for each round: TIME_WAIT lasts a minute."""
    times = []
    for _ in range(rounds):
        make(size)
        count, diagnosis_s = ours()
        times.append((diagnosis_s - empty[0], theirs()[0] - empty[1]))
    ratio = statistics.median(one / other for one, other in times)
    ms = [statistics.median(column) * 1000 for column in zip(*times, strict=True)]
    print(f"{int(count):>8,} sockets   diagnose {ms[0]:5.0f} ms   ss {ms[1]:5.0f} ms   ratio {ratio:.2f}")
    return ratio


def ours() -> tuple[float, float]:
    """Sockets, and the seconds that their diagnosis took."""
    done = subprocess.run([sys.executable, "-c", DIAGNOSE], capture_output=True, text=True, check=True)
    count, seconds = done.stdout.split()
    return float(count), float(seconds)


def theirs() -> tuple[float]:
    """The seconds that ss took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(SS, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,)


def make(size: int) -> None:
    """Bring the namespace to `size` sockets in TIME_WAIT."""
    there = int(Path("/proc/net/sockstat").read_text().partition(" tw ")[2].split()[0])
    number = 0
    while there < size:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((f"127.1.{number % 250}.{os.getpid() % 250 + 1}", 10_000 + number))
            listener.listen(64)
            address = listener.getsockname()
            for _ in range(min(PER_LISTENER, size - there)):
                with socket.socket() as near:
                    near.connect(address)
                    far, _ = listener.accept()
                far.close()
                there += 1
        number += 1


if __name__ == "__main__":
    main()
