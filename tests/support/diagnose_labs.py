"""Labs whose truth is known, for `twlab diagnose`: loads on a proxy, then what tools print, and a
live look.
"""

import contextlib
import errno
import os
import socket
import subprocess
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads would cost virtual time in the lab kernel

COMMANDS = {
    "ss": "ss -tanoe --inet-sockopt",
    "ss-i": "ss -tanoeip",
    "netstat": "netstat -tanoe",
    "netstat-plain": "netstat -tan",
    "busybox": "busybox netstat -tan",
    "proc": "cat /proc/net/tcp /proc/net/tcp6",
    "nstat": "nstat -azs",
    "netstat-s": "netstat -s",
    "sysctl": "sysctl net.ipv4.ip_local_port_range net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps net.ipv4.tcp_fin_timeout "  # noqa: E501
    "net.ipv4.tcp_max_tw_buckets net.ipv4.ip_local_reserved_ports",
}


def look(case: dict[str, Any]) -> dict[str, Any]:
    """Carry out `case` and look at the proxy: texts by tool, and the live diagnosis.

    Keys of a case: ``settings`` of the proxy, ``origin`` (settings of the server), ``loads``
    (arguments of `Load`, with ``to`` ports and ``serve`` arguments of `Origin`), ``open``
    connections kept open to port 90, ``mapped`` connections of an IPv6 socket
    over IPv4, ``fill`` to use up the whole range.
    """
    from twlab.loop import Loop
    from twlab.network import Network, load_topology
    from twlab.results.transcript import Transcript
    from twlab.settings import Settings
    from twlab.traffic.load_client import Load, LoadClient, LoadServer
    from twlab.tuning.apply import Tuning

    loop = Loop()
    with Network(load_topology(case.get("topology", "proxy"))) as network, contextlib.ExitStack() as stack:
        proxy, server = network["proxy"], network["server"] if "server" in network.nodes else network["s1"]
        transcript = Transcript(lambda: loop.now_s)
        stack.enter_context(Tuning(proxy, Settings(**case.get("settings", {})), loop, transcript))
        stack.enter_context(Tuning(server, Settings(**case.get("origin", {})), loop, transcript))
        for load in case.get("loads", []):
            given = dict(load)
            family, ports = given.pop("family", 4), given.pop("to", [80])
            if given.pop("named_source", False):
                given["sources"] = [proxy.address(family)]
            origin = LoadServer(server, loop, address=server.address(family), ports=ports, **given.pop("serve", {}))
            LoadClient(
                proxy, loop, Load(**given, targets=[(server.address(family), port) for port in ports], timed=False)
            ).run()
            loop.sleep(0.05)
            origin.close()
        kept = _open(stack, proxy, server, case.get("open", 0))
        _mapped(proxy, server, case.get("mapped", 0))
        error = _fill(proxy, server) if case.get("fill") else ""
        loop.sleep(0.05)
        with proxy.inside():
            texts = {name: _printed(command) for name, command in COMMANDS.items()}
            answer = {"texts": texts, "live": _live(), "error": error}
        kept.clear()
    return answer


def look_at_all(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each of `cases` in turn."""
    return [look(case) for case in cases]


def _live() -> dict[str, Any]:
    from twlab.diagnose import live
    from twlab.diagnose.diagnosis import diagnose

    return diagnose(live.read(0, only_own=True)).as_dict()


def _printed(command: str) -> str:
    words = command.split()
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""


def _open(stack: contextlib.ExitStack, proxy: Any, server: Any, count: int) -> list[socket.socket]:
    """Connections that stay open."""
    if not count:
        return []
    listener = stack.enter_context(server.socket())
    listener.bind((server.address(), 90))
    listener.listen(4096)
    kept = []
    for _ in range(count):
        near = stack.enter_context(proxy.socket())
        near.connect((server.address(), 90))
        kept += [near, stack.enter_context(contextlib.closing(listener.accept()[0]))]
    return kept


def _fill(proxy: Any, server: Any) -> str:
    """Use up the whole range towards port 80, closed here first; the error of the next connect().

    Each port is named, which spares the search for a free one: TIME_WAIT lasts a minute, and the
    last port must be taken before the first comes back.
    """
    source, target = proxy.address(), (server.address(), 80)
    with server.socket() as listener, proxy.inside():  # entered once: a socket of another namespace is dear
        listener.bind(target)
        listener.listen(4096)
        for port in range(32_768, 61_000):
            with socket.socket() as near:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                near.bind((source, port))
                near.connect(target)
                far, _ = listener.accept()
            far.close()
        with socket.socket() as near:
            return errno.errorcode.get(near.connect_ex(target), "")


def _mapped(proxy: Any, server: Any, count: int) -> None:
    """Connections over IPv4 of sockets of the family IPv6, closed here first."""
    if not count:
        return
    with server.socket() as listener:
        listener.bind((server.address(), 91))
        listener.listen(4096)
        for _ in range(count):
            with proxy.socket(socket.AF_INET6) as near:
                near.connect((f"::ffff:{server.address()}", 91))
                far, _ = listener.accept()
            far.close()
