"""Tools that make load: ab, h2load, hey, siege; one request each.

They exit with 0 also when the request has failed. ``wrk`` sends requests for a second at least; a
script stops it after the first. It tries the address with a connection of its own before, and opens
another one when the answer says close.
"""

import re

from twlab.atlas.subject import Place, Subject


def _ab(place: Place) -> tuple[str, ...]:
    return ("-q", "-n", "1", "-c", "1", *(("-B", place.source) if place.source else ()), place.url)


_WRK = """\
function response() wrk.thread:stop() end
"""


def _tool(name: str, package: str, *arguments: str, **more: object) -> Subject:
    return Subject(
        name=name,
        program=name,
        package=package,
        arguments=lambda place: (*arguments, place.url),
        runs="once",
        methods=("GET",),
        **more,  # type: ignore[arg-type]
    )


SUBJECTS = (
    Subject(
        name="ab",
        program="ab",
        package="apache2-utils",
        arguments=_ab,
        runs="once",
        source="-B ADDRESS",
        version=("-V",),
        methods=("GET",),
    ),
    _tool("h2load", "nghttp2-client", "--h1", "-n", "1", "-c", "1", succeeds=re.compile(r"\b1 succeeded")),
    _tool(
        "hey",
        "hey",
        "-n",
        "1",
        "-c",
        "1",
        "-disable-keepalive",
        version=(),
        succeeds=re.compile(r"\[200\]\s+1 responses"),
    ),
    _tool(
        "siege",
        "siege",
        "--concurrent=1",
        "--reps=1",
        succeeds=re.compile(r"successful_transactions\":\s+1|Successful transactions:\s+1\b"),
    ),
    Subject(
        name="wrk",
        program="wrk",
        package="wrk",
        arguments=lambda place: ("-c", "1", "-t", "1", "-d", "1s", "-s", "{folder}/one.lua", place.url),
        files=lambda _: {"one.lua": _WRK},
        runs="once",
        version=("-v",),
        methods=("GET",),
        statuses={1: "exit 1 (unable to connect)"},
        succeeds=re.compile(r"\b1 requests in"),
    ),
)
