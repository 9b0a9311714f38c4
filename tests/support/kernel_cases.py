"""What the tests of the lab kernel's sysctls do inside it. Imports little, because an import in the
guest takes real time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from crafted import ACK, FIN, SERVER, SYN, Client
from recycle_cases import BASE, Bench, ask, counters, rto, sysctl, time_waits

from twlab.linux.syscalls import inside_network_namespace, new_network_namespace


def loopback_up() -> None:
    """Switch on this namespace's loopback interface."""
    with socket.socket() as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING


def read(name: str) -> int:
    """net.ipv4.`name`"""
    return int(Path(f"/proc/sys/net/ipv4/{name}").read_text())


def refusal(name: str, value: object) -> str:
    """Why the kernel refuses a value of a sysctl; empty if it takes it."""
    try:
        sysctl(name, value)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def _one_time_wait(address: str = "127.0.0.1") -> socket.socket:
    """A connection to oneself that is now in TIME_WAIT at the end that connected; its listener."""
    listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    client = socket.create_connection(listener.getsockname()[:2])
    server, _ = listener.accept()
    client.close()
    server.recv(1)
    server.close()
    return listener


def _remaining_s() -> list[float]:
    """What is left of every TIME_WAIT in this namespace, IPv4 and IPv6."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [int(row[5].split(":")[1], 16) / 100 for row in rows if row[3] == "06"]


def _life_s(address: str = "127.0.0.1") -> float:
    """How long a TIME_WAIT socket really lives."""
    _one_time_wait(address).close()
    start = time.monotonic()
    time.sleep(max(0.0, _remaining_s()[0] - 0.1))
    while _remaining_s():
        time.sleep(0.0005)
    return time.monotonic() - start


def lives(lengths_ms: list[int], address: str) -> dict[str, list[float]]:
    """Three lives each: of the constant, and of each length by the sysctl."""
    loopback_up()
    found = {}
    for length_ms in (0, *lengths_ms):
        if length_ms:
            sysctl("tcp_timewait_len", length_ms)
        found[str(length_ms)] = [_life_s(address) for _ in range(3)]
    return found


def bounds() -> dict[str, Any]:
    """The defaults, and what values the sysctls take."""
    found: dict[str, Any] = {
        name: read(name) for name in ("tcp_timewait_len", "tcp_tw_recycle", "tcp_timestamp_offset")
    }
    for name, values in {
        "tcp_timewait_len": [0, -1, 3_600_001, 2**32, "abc", 1, 3_600_000],
        "tcp_tw_recycle": [2, -1, "x", 1, 0],
        "tcp_timestamp_offset": [2**31, "x", -(2**31), 2**31 - 1, 0],
    }.items():
        for value in values:
            found[f"{name}={value}"] = refusal(name, value)
    return found


def namespaces() -> list[int]:
    """One namespace's length, another one's, and this one's, after the first was set."""
    first, second = new_network_namespace(), new_network_namespace()
    with inside_network_namespace(first):
        sysctl("tcp_timewait_len", 5000)
    found = []
    for namespace in (first, second):
        with inside_network_namespace(namespace):
            found.append(read("tcp_timewait_len"))
    return [*found, read("tcp_timewait_len")]


def rearming() -> dict[str, float | None]:
    """A TIME_WAIT of 5 s, 3 s old, is reached by several segments; what is left then."""
    sysctl("tcp_timewait_len", 5000)
    bench = Bench()
    found = {}
    for name in ("nothing", "bare ACK", "repeated FIN", "old data"):
        bench.fresh()
        client, _ = bench.remember(BASE)
        time.sleep(3)
        if name == "bare ACK":
            client.send()
        elif name == "repeated FIN":
            client.seq -= 1
            client.send(FIN | ACK)
        elif name == "old data":
            client.seq -= 100
            client.send(ACK, b"x" * 50)
        time.sleep(0.01)
        found[name] = bench.timer_s(client)
    return found


def fin_wait2(length_ms: int, fin_timeout_s: int) -> dict[str, Any]:
    """An orphan in FIN_WAIT2: its whole life, and, of another, what is left of TIME_WAIT right
    after the client's FIN at last came.
    """
    sysctl("tcp_timewait_len", length_ms)
    sysctl("tcp_fin_timeout", fin_timeout_s)
    bench = Bench()
    bench.fresh()
    ends = []
    for _ in range(2):
        client, server = bench.connect(BASE)
        server.close()
        client.expect("FIN+ACK")
        client.send()
        ends.append(client)
    start = time.monotonic()
    silent, polite = ends
    time.sleep(10)
    state_before = [state for state, _ in time_waits(polite)]
    polite.send(FIN | ACK)
    polite.expect("ACK")
    after = time_waits(polite)
    while _exists(silent):
        time.sleep(0.05)
    return {"before": state_before, "after": after, "life_s": time.monotonic() - start}


def _exists(client: Client) -> bool:
    peer = f"{struct.unpack('=I', socket.inet_aton(client.address))[0]:08X}:{client.port:04X}"
    return any(line.split()[2] == peer for line in Path("/proc/net/tcp").read_text().splitlines()[1:])


def shown_by_ss() -> list[str]:
    """What ss shows of a TIME_WAIT of 30 s, 10 s old: its timer."""
    loopback_up()
    sysctl("tcp_timewait_len", 30_000)
    _one_time_wait().close()
    time.sleep(10)
    text = subprocess.run(
        ["ss", "--no-header", "--tcp", "--numeric", "--options", "state", "time-wait"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [word for word in text.split() if word.startswith("timer:")]


def many(count: int, length_ms: int) -> list[int]:
    """How many of `count` TIME_WAIT sockets there are 10 ms before the first should go and 10 ms
    after the last should have gone.
    """
    loopback_up()
    sysctl("tcp_max_tw_buckets", count)
    sysctl("ip_local_port_range", "1024 65535")
    sysctl("tcp_timewait_len", length_ms)
    listener = socket.create_server(("127.0.0.1", 1023), backlog=16)
    start = time.monotonic()
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", 1023))
        server, _ = listener.accept()
        client.close()
        server.recv(1)
        server.close()
    end = time.monotonic()
    time.sleep(start + length_ms / 1000 - 0.01 - time.monotonic())
    before = _in_time_wait()
    time.sleep(end + length_ms / 1000 + 0.01 - time.monotonic())
    return [before, _in_time_wait()]


def _in_time_wait() -> int:
    words = next(
        line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:")
    ).split()
    return int(words[words.index("tw") + 1])


def clocks(offsets_ms: list[int], syncookies: int) -> dict[str, Any]:
    """The timestamp clock of SYN-ACKs, FINs and TIME_WAIT's ACKs under each offset, less the clock
    without one; and the RTT measured.
    """
    sysctl("tcp_timestamps", 2)
    sysctl("tcp_syncookies", syncookies)
    bench = Bench()
    bench.fresh()
    found: dict[str, Any] = {}
    clock_ms: int | None = None
    for offset_ms in (0, *offsets_ms):
        sysctl("tcp_timestamp_offset", offset_ms)
        start = time.monotonic()
        client = bench.client(BASE)
        answer = client.syn()
        assert answer and answer.tsval is not None
        time.sleep(0.1)
        client.send()
        server, _ = bench.listeners[7000].accept()
        rtt_s = struct.unpack_from("=I", server.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 68)[0] / 1e6
        server.close()
        fin = client.expect("FIN+ACK")
        client.send(FIN | ACK)
        last = client.expect("ACK")
        if clock_ms is None:  # by the FIN, as a cookie's SYN-ACK does not quite show the clock
            clock_ms = (fin.tsval or 0) - int(time.monotonic() * 1000)
        base_ms = int(start * 1000) + clock_ms + offset_ms
        late_ms = [((seen.tsval or 0) - base_ms + 2**31) % 2**32 - 2**31 for seen in (answer, fin, last)]
        found[str(offset_ms)] = {"late_ms": late_ms, "rtt_s": rtt_s}
    return found


def offset_of_a_client(offset_ms: int, timestamps: int) -> int | None:
    """By how much the TSval in a kernel's SYN changes with the offset, in ms, rounded to a tenth of
    a second; None: it has none.
    """
    sysctl("tcp_timestamps", timestamps)
    bench = Bench()
    values = []
    for offset in (0, offset_ms):
        sysctl("tcp_timestamp_offset", offset)
        with socket.socket() as kernel:
            kernel.setblocking(False)
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            kernel.bind((SERVER, 41_000))  # the same four-tuple, so the same random offset
            kernel.connect_ex(("10.9.0.1", 80))
            syn = Client(bench.wire, "10.9.0.1", 80, tsval=None, server=SERVER, server_port=41_000).expect("SYN")
            values.append(syn.tsval)
    if None in values:
        return None
    return round(((values[1] or 0) - (values[0] or 0) + 2**31) % 2**32 - 2**31, -2)


def ask_the_records(path: str) -> dict[str, Any]:
    """All recorded questions asked again, and this kernel's release."""
    return {"pairs": ask(json.loads(Path(path).read_text())["records"]), "release": os.uname().release}


def opens_towards_a_lower_clock() -> dict[str, Any]:
    """Close first towards a crafted server with a high clock, then connect to it again, its clock
    low now.
    """
    sysctl("tcp_tw_recycle", 1)
    bench = Bench()
    seen: dict[str, Any] = {}
    for name, tsval, port in (("first", BASE, 40_001), ("second", BASE - 100_000, 40_002)):
        kernel = socket.socket()
        kernel.setblocking(False)
        kernel.bind((SERVER, port))
        kernel.connect_ex(("10.9.0.1", 80))
        server = Client(bench.wire, "10.9.0.1", 80, tsval=tsval, server=SERVER, server_port=port)
        seen[f"{name} TSecr"] = server.expect("SYN").tsecr
        server.send(SYN | ACK)
        server.seq += 1
        seen[f"{name} answer"] = server.expect("ACK").kind
        short_s = 3.5 * rto(kernel)
        bench.close_server_first(server, kernel)
        seen[f"{name} TIME_WAIT"] = (
            "3.5 RTO" if abs((bench.timer_s(server) or 0) - short_s) < 0.05 else bench.timer_s(server)
        )
    return seen


def refused_over_ipv6() -> dict[str, Any]:
    """A connection to oneself over IPv6, then one with a lower clock; in a namespace with recycle
    on, and in one with it off.
    """
    found = {}
    for name, recycle in (("on", 1), ("off", 0)):
        with inside_network_namespace(new_network_namespace()):
            sysctl("tcp_tw_recycle", recycle)
            sysctl("tcp_timestamps", 2)
            loopback_up()
            listener = socket.create_server(("::1", 7000), family=socket.AF_INET6)
            with socket.create_connection(("::1", 7000)) as client:
                server, _ = listener.accept()
                server.close()
                client.recv(1)
            time.sleep(0.01)
            left_s = _remaining_s()[0]
            sysctl("tcp_timestamp_offset", -100_000)
            before = counters()["PAWSPassive"]
            try:
                socket.create_connection(("::1", 7000), timeout=0.5).close()
                answer = "connected"
            except TimeoutError:
                answer = "silence"
            found[name] = {"answer": answer, "PAWSPassive": counters()["PAWSPassive"] - before, "short": left_s < 2}
    return found
