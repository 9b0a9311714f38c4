"""Runs one way of one proxy under load, and observes clients, log and kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from twlab.lab.lab import Lab
from twlab.linux import tcp_sockets
from twlab.network import Node
from twlab.observation import Observation
from twlab.proxies.software import PORT, Software, Upstream
from twlab.traffic.http import WebClients, WebServer, request_of
from twlab.traffic.program import Program, find

ORIGIN_PORTS = (80, 81)
_ERROR = re.compile(rb"\((\d+)\) ([A-Z][\w ]+)")  # in Squid's error page, as ``(99) Cannot assign requested address``
_LISTEN = "LISTEN"
_TOLD_EVERY_S = 10.0


def under_load(
    lab: Lab,
    software: Software,
    way: str,
    *,
    rate_per_s: float,
    duration_s: float,
    keep_alive: bool = True,
    origin_closes: bool = False,
    method: str = "GET",
) -> Observation:
    """Run `software` between ``client`` and ``server`` under a steady load.

    It runs on the node ``proxy``; the client sends the requests.

    Args:
        way: one of `software.ways`.
        rate_per_s, duration_s: of the requests; they do not wait for each other.
        keep_alive: the clients keep their connections to the proxy; False: each request has one of
            its own, which the client closes.
        origin_closes: the origin closes first where it is asked to close; False: it leaves that to
            the proxy.
        method: of the requests, GET or POST.

    Returns:
        ``answered`` and ``refused`` requests; ``client_sees``: the status codes of those not
        answered with 200, ``closed`` where there was none;
        ``proxy_says``: its complaint, without addresses; ``complaints``: how many; ``to_origin``:
            connections that the origin accepted;
        ``in_time_wait``: of them at the end, on the proxy; ``resets``: of them that ended with a
            RST from the proxy;
        ``taken_over``: of them that took a port over from TIME_WAIT.

    Raises:
        CapabilityError: the software is not installed (``no-program``).
        UsageError: it has no such way (``no-such-way``).
        ScenarioError: it did not come up (``program-ended``, ``program-not-ready``).
    """
    _note_ceiling(lab)
    lab.step(f"{software.name} starts: {software.ways.get(way, way)}.")
    proxy = lab.network["proxy"]
    servers = origins(lab, hang_up=origin_closes)
    upstream = Upstream(origins=[server.address for server in servers], sources=proxy.addresses())
    with running(lab, proxy, software, way, upstream) as program:
        lab.step(f"Clients ask {rate_per_s:g} times a second, for {duration_s:g} s.")
        clients = ask(lab, rate_per_s=rate_per_s, duration_s=duration_s, keep_alive=keep_alive, method=method)
        _wait(lab, clients, duration_s)
        in_time_wait = sum(entry.remote_port in ORIGIN_PORTS for entry in tcp_sockets.table(proxy))
        log = program.read(software.log)
    _note_failures(lab, software, log, clients)
    complaints = [
        " ".join(part.strip() for part in found.groups() if part) for found in software.complaint.finditer(log)
    ]
    return Observation(
        answered=clients.answers["200"],
        refused=refused(clients),
        client_sees=seen(clients),
        proxy_says=complaints[0] if complaints else "nothing",
        complaints=len(complaints),
        to_origin=sum(server.connections for server in servers),
        in_time_wait=in_time_wait,
        resets=sum(server.resets for server in servers),
        taken_over=lab.moved("proxy", "TWRecycled"),
    )


def origins(lab: Lab, *, hang_up: bool, family: int = 4) -> list[WebServer]:
    """Start the two origins, on ``server``, for as long as the lab lasts.

    Args:
        hang_up: they close first where they are asked to close.
        family: IP version of their addresses.
    """
    node = lab.network["server"]
    servers = [WebServer(node, lab.loop, port, hangs_up=hang_up, family=family) for port in ORIGIN_PORTS]
    for server in servers:
        lab.closing.callback(server.close)
    return servers


def ask(lab: Lab, *, rate_per_s: float, duration_s: float, keep_alive: bool, method: str = "GET") -> WebClients:
    """Begin to ask the proxy from ``client``; the arguments are those of `under_load`."""
    clients = WebClients(
        lab.network["client"],
        lab.loop,
        (lab.network["proxy"].interface_to("client").all4[0], PORT),
        rate_per_s=rate_per_s,
        duration_s=duration_s,
        keep_alive=keep_alive,
        request=request_of(method),
    )
    lab.closing.callback(clients.close)
    return clients


def refused(clients: WebClients) -> int:
    """Count the requests that were not answered with 200."""
    return clients.answers.total() - clients.answers["200"]


def seen(clients: WebClients) -> str:
    """Name what clients saw instead of 200, with blanks between; ``200`` without any."""
    return " ".join(sorted(set(clients.answers) - {"200"})) or "200"


def _note_ceiling(lab: Lab) -> None:
    """Note how many connections a second the proxy's ports allow, where the arm sets them."""
    wanted = lab.settings["proxy"]
    if wanted.port_low and wanted.port_high and wanted.time_wait_s:
        count = wanted.port_high - wanted.port_low + 1
        lab.note(
            f"{count} ports / {wanted.time_wait_s:g} s of TIME_WAIT: {count / wanted.time_wait_s:g} new "
            "connections a second, and no more"
        )


def _wait(lab: Lab, clients: WebClients, duration_s: float) -> None:
    """Let time pass until the clients are done; note now and then how far they are."""
    until_s = lab.now_s + duration_s + clients.patience_s + 1
    while not clients.done and lab.now_s < until_s:
        if not lab.loop.wait_until(lambda: clients.done, _TOLD_EVERY_S):
            lab.note(
                f"{clients.asked} requests: {clients.answers['200']} answered; "
                f"{tcp_sockets.count(lab.network['proxy'])} sockets in TIME_WAIT"
            )


def _note_failures(lab: Lab, software: Software, log: str, clients: WebClients) -> None:
    """Note the proxy's first complaint, and the first request that failed."""
    first = next((line for line in log.splitlines() if software.complaint.search(line)), "")
    if first:
        lab.note(f"{software.name} says, for the first time: {first}")
    if refused(clients):
        found = _ERROR.search(clients.first_refusal)
        page = f"; its page says: {found[0].decode()}" if found else ""
        lab.note(
            f"the first request that was not answered with 200 was sent after {clients.first_failure_s:.2f} s{page}"
        )


@contextmanager
def running(lab: Lab, node: Node, software: Software, way: str, upstream: Upstream) -> Iterator[Program]:
    """Run `software` on `node` for the block, ready for clients.

    The transcript has its configuration. Raises as `under_load`.
    """
    program = find(software.name, software.package)
    text, more = software.configuration(way, upstream), software.more.get(way, ())
    told = " ".join((software.file, *more))
    lab.transcript.record("verb", f"{software.name} is started with {told}", node.name, file=text)
    started = Program(node, lab.loop, [program, *software.arguments, *more], {software.file: text})
    try:
        started.wait_until(lambda: any(s.state == _LISTEN and s.local_port == PORT for s in tcp_sockets.sockets(node)))
        yield started
    finally:
        started.stop()
