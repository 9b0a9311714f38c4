"""The request for the agent: what it runs, and the surroundings that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twlab.linux.programs import find_program
from twlab.own_proxy.network import loopback
from twlab.own_proxy.order import AS_IT_IS, Arm, Order, Prepared
from twlab.own_proxy.reading import ANY, Place, Reading, is_address, is_host
from twlab.planner.demand import late_s

_HZ = 250
_SYSTEMS = "/etc/ssl/certs/ca-certificates.crt"  # that a proxy trusts where its file names none
_MOST_NAMES = 50  # of a kind, in the lab's certificate


def request(order: Order, prepared: Prepared, engine: str) -> dict[str, Any]:
    """Return the request for the agent."""
    reading, reader = prepared.reading, prepared.reader
    to_origins = any(place.tls for place in reading.places)
    trusted = {"SSL_CERT_FILE": _SYSTEMS} if to_origins else {}  # by OpenSSL, and by Go
    reading.authorities |= set(trusted.values())
    tls = bool(reading.certificates or reading.authorities or reading.private)
    return {
        "seed": order.seed,
        "engine": engine,
        **reading.as_request(),
        "environment": trusted | reading.environment,
        "places": [asdict(place) for place in _served(reading, prepared.names)],
        "text": prepared.text,
        "check": _words(reader.check, reading),
        "complaint": reader.complaint,
        "version": list(reader.version),
        "package": reader.package,
        "certificate": _certified(reading) if tls else [],
        "names": prepared.names,
        "keep_alive": order.keep_alive,
        "client": order.client,
        "method": order.method,
        "rate_per_s": order.rate_per_s / order.divided_by,
        "duration_s": order.duration_s or 1.5 * order.hold_s,
        "hold_s": order.hold_s,
        "late_s": late_s(order.hold_s, _HZ),
        "arms": [_arm(order, prepared, arm) for arm in prepared.arms],
    }


def _arm(order: Order, prepared: Prepared, arm: Arm) -> dict[str, Any]:
    change = arm.change
    text = prepared.text if change.text is None else change.text
    return {
        "name": change.name,
        "text": None if change.other else change.text,
        "arguments": _words(prepared.reader.run(text), change.other or prepared.reading),
        "folder": str(Path((change.other or prepared.reading).file).parent),
        "routes": [asdict(route) for route in arm.routes],
        "settings": arm.settings.as_dict(),
        "origin_closes": bool(change.origin_closes),
        "theory_per_s": [by_route / order.divided_by for by_route in arm.theory],
        "ceiling": order.ceiling and not change.origin_closes,
        "race": order.race and (change.name == AS_IT_IS or change.text is not None),
    }


def _words(words: tuple[str, ...], reading: Reading) -> list[str]:
    return [word.replace("{file}", reading.main or reading.file) for word in words]


def _served(reading: Reading, names: Mapping[str, str]) -> list[Place]:
    """Return the places that the lab serves: all but those where the proxy itself listens."""
    return [place for place in reading.places if not _is_own(place, reading, names)]


def _is_own(place: Place, reading: Reading, names: Mapping[str, str]) -> bool:
    address = names.get(place.host, place.host)
    if not is_address(address) or not (loopback(address) or address in reading.addresses):
        return False
    at = {names.get(one.host, one.host) for one in reading.listeners if one.port == place.port}
    return address in at or bool(at & set(ANY))


def _certified(reading: Reading) -> list[str]:
    """Return the names and addresses for which the lab's certificate is."""
    if find_program("openssl") is None:
        reading.lacks("a certificate", "none could be made: install openssl")
    asked = {route.host.partition(":")[0] for route in reading.routes}
    hosts = asked | {name for name in reading.names | reading.certified if is_host(name) and not is_address(name)}
    addresses = {place.host for place in reading.places if place.is_address}
    return [*sorted(hosts)[:_MOST_NAMES], *sorted(addresses)[:_MOST_NAMES]]
