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

_ORIGIN_PORTS = (80, 81)
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
    proxy, wanted = lab.network["proxy"], lab.settings["proxy"]
    if wanted.port_low and wanted.port_high and wanted.time_wait_s:
        count = wanted.port_high - wanted.port_low + 1
        lab.note(
            f"{count} ports / {wanted.time_wait_s:g} s of TIME_WAIT: {count / wanted.time_wait_s:g} new "
            "connections a second, and no more"
        )
    lab.step(f"{software.name} starts: {software.ways.get(way, way)}.")
    origins = [WebServer(lab.network["server"], lab.loop, port, hangs_up=origin_closes) for port in _ORIGIN_PORTS]
    for origin in origins:
        lab.closing.callback(origin.close)
    upstream = Upstream(origins=[origin.address for origin in origins], sources=proxy.addresses())
    with running(lab, proxy, software, way, upstream) as program:
        lab.step(f"Clients ask {rate_per_s:g} times a second, for {duration_s:g} s.")
        address = proxy.interface_to("client").all4[0]
        clients = WebClients(
            lab.network["client"],
            lab.loop,
            (address, PORT),
            rate_per_s=rate_per_s,
            duration_s=duration_s,
            keep_alive=keep_alive,
            request=request_of(method),
        )
        lab.closing.callback(clients.close)
        until_s = lab.now_s + duration_s + clients.patience_s + 1
        while not clients.done and lab.now_s < until_s:
            if not lab.loop.wait_until(lambda: clients.done, _TOLD_EVERY_S):
                lab.note(
                    f"{clients.asked} requests: {clients.answers['200']} answered; {tcp_sockets.count(proxy)} "
                    "sockets in TIME_WAIT"
                )
        in_time_wait = sum(entry.remote_port in _ORIGIN_PORTS for entry in tcp_sockets.table(proxy))
        complaints = [
            " ".join(part.strip() for part in found.groups() if part)
            for found in software.complaint.finditer(program.read(software.log))
        ]
        first = next((line for line in program.read(software.log).splitlines() if software.complaint.search(line)), "")
    if first:
        lab.note(f"{software.name} says, for the first time: {first}")
    refused = clients.answers.total() - clients.answers["200"]
    if refused:
        found = _ERROR.search(clients.first_refusal)
        page = f"; its page says: {found[0].decode()}" if found else ""
        lab.note(
            f"the first request that was not answered with 200 was sent after {clients.first_failure_s:.2f} s{page}"
        )
    return Observation(
        answered=clients.answers["200"],
        refused=refused,
        client_sees=" ".join(sorted(set(clients.answers) - {"200"})) or "200",
        proxy_says=complaints[0] if complaints else "nothing",
        complaints=len(complaints),
        to_origin=sum(origin.connections for origin in origins),
        in_time_wait=in_time_wait,
        resets=sum(origin.resets for origin in origins),
        taken_over=lab.moved("proxy", "TWRecycled"),
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
