"""Changes to an nginx.conf."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import crossplane  # type: ignore[import-untyped]

from twlab.own_proxy.nginx_blocks import PROXY_PASS, Block, directive_of, named, values_of
from twlab.own_proxy.reading import Change, Place, Reading, Route, parse_origin


def changes(
    reading: Reading, _text: str, route: Route, own_ports: tuple[int, int], sources: Sequence[str]
) -> list[Change]:
    """Propose changes for the locations that lead where `route` does.

    Only what stands in the file itself is changed, not what it includes.
    """
    parsed = crossplane.parse(reading.file, check_ctx=False, check_args=False)
    main = parsed["config"][0]["parsed"]
    found = []
    for name, what, edit in (
        ("keepalive", "keepalive 32, proxy_http_version 1.1 and an empty Connection header", _keep),
        ("max_fails=0", "no server of the group is taken out when connect fails", _never_down),
        ("source addresses", f"{len(sources)} addresses by split_clients and proxy_bind", _split),
    ):
        edited = copy.deepcopy(main)
        for block in [edited] if reading.main else named(edited, "http"):
            if edit(block, route, sources):
                text = crossplane.build(edited) + "\n"
                found.append(Change(name, what, text, before=crossplane.build(main) + "\n"))
                break
    return found


@dataclass
class _Pass:
    """A proxy_pass.

    Attributes:
        arguments: of the directive.
        around: the blocks that are around it, the innermost first: directives of it may stand in
            the first, and all are inherited. A block of ``if`` is not among them: none may.
    """

    arguments: list[str]
    around: list[Block]

    def inherited(self, name: str) -> list[list[str]]:
        """Return the arguments of each directive called `name` that applies to it.

        A block that has one of them inherits none.
        """
        return next((found for block in self.around if (found := list(values_of(block, name)))), [])


def _passes(http: Block, route: Route) -> list[_Pass]:
    """Return the proxy_pass directives that lead to an origin of `route`."""
    return [one for one in _every_pass(http, [http]) if set(_servers(http, one)) & set(route.origins)]


def _every_pass(block: Block, around: list[Block]) -> Iterator[_Pass]:
    for directive in block:
        inner = directive.get("block") or []
        if directive["directive"] == "proxy_pass" and directive["args"]:
            yield _Pass(directive["args"], around)
        elif directive["directive"] in ("server", "location"):
            yield from _every_pass(inner, [inner, *around])
        elif directive["directive"] in ("if", "limit_except"):
            yield from _every_pass(inner, around)


def _servers(http: Block, one: _Pass) -> Iterator[Place]:
    """Yield where a proxy_pass leads."""
    if not (match := PROXY_PASS.fullmatch(one.arguments[0])):
        return
    tls = match[1] == "https"
    group = _group(http, match[2])
    for text in [match[2]] if group is None else [values[0] for values in values_of(group, "server")]:
        if place := parse_origin(text, 443 if tls and group is None else 80, tls):
            yield place


def _group(http: Block, name: str) -> Block | None:
    """Return the upstream block of that name."""
    return next(
        (one["block"] for one in http if one["directive"] == "upstream" and one["args"] == [name] and "block" in one),
        None,
    )


def _keep(http: Block, route: Route, _: Sequence[str]) -> bool:
    """Have connections kept; one to an Upgrade is the client's own, and stays."""
    done = False
    for one in _passes(http, route):
        headers = one.inherited("proxy_set_header")
        named = {values[0].lower() for values in headers}
        if "upgrade" in named:
            continue
        match = PROXY_PASS.fullmatch(one.arguments[0])
        assert match is not None  # it leads to an origin of the route
        group, stated = _group(http, match[2]), []
        if group is None:
            group = _new_group(http, one, match)
            stated = _as_before(one, match, named)
            done = True
        if not list(values_of(group, "keepalive")):
            group.append(directive_of("keepalive", "32"))
            done = True
        if one.inherited("proxy_http_version") == [["1.1"]] and ["Connection", ""] in headers and not stated:
            continue
        block = one.around[0]
        kept = [entry for entry in block if entry["directive"] not in ("proxy_http_version", "proxy_set_header")]
        sent = [directive_of("proxy_set_header", *values) for values in headers if values[0].lower() != "connection"]
        own = [directive_of("proxy_http_version", "1.1"), directive_of("proxy_set_header", "Connection", "")]
        block[:] = [*kept, *stated, *sent, *own]
        done = True
    return done


def _as_before(one: _Pass, match: re.Match[str], named: Collection[str]) -> Block:
    """Return what has nginx say the target's name, as without a group, where no line says it."""
    stated = [] if "host" in named else [directive_of("proxy_set_header", "Host", match[2])]
    if match[1] == "https" and not one.inherited("proxy_ssl_name"):
        stated.append(directive_of("proxy_ssl_name", re.sub(r":\d+$", "", match[2])))
    return stated


def _new_group(http: Block, one: _Pass, match: re.Match[str]) -> Block:
    """Put an upstream block in the place of a target that is named by itself."""
    place = parse_origin(match[2], 443 if match[1] == "https" else 80)
    assert place is not None  # it leads to an origin of the route
    name = f"twlab_{sum(entry['directive'] == 'upstream' for entry in http)}"
    host = f"[{place.host}]" if ":" in place.host else place.host
    group = directive_of("upstream", name, block=[directive_of("server", f"{host}:{place.port}")])
    http.insert(0, group)
    one.arguments[:] = [f"{match[1]}://{name}{match[3] or ''}"]
    block: Block = group["block"]
    return block


def _never_down(http: Block, route: Route, _: Sequence[str]) -> bool:
    done = False
    for one in _passes(http, route):
        match = PROXY_PASS.fullmatch(one.arguments[0])
        servers = list(values_of(_group(http, match[2]) or [], "server")) if match else []
        for values in servers if len(servers) > 1 else ():
            if "max_fails=0" not in values:
                values[1:] = [*(value for value in values[1:] if not value.startswith("max_fails=")), "max_fails=0"]
                done = True
    return done


def _split(http: Block, route: Route, sources: Sequence[str]) -> bool:
    found = [one for one in _passes(http, route) if not one.inherited("proxy_bind")]
    if not found or len(sources) < 2 or route.sources:
        return False
    shares = [directive_of(f"{100 // len(sources)}%", source) for source in sources[:-1]]
    key = "$connection-$connection_requests"
    split = directive_of("split_clients", key, "$twlab_source", block=[*shares, directive_of("*", sources[-1])])
    for one in found:
        if not list(values_of(one.around[0], "proxy_bind")):
            one.around[0].append(directive_of("proxy_bind", "$twlab_source"))
    http.insert(0, split)
    return True
