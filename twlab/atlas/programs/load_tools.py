"""Tools that make load: ab, h2load, hey, siege; one request each.

They exit with 0 also when the request has failed. ``wrk`` is not here: it cannot send one request.
"""

import re

from twlab.atlas.subject import Place, Subject


def _ab(place: Place) -> tuple[str, ...]:
    return ("-q", "-n", "1", "-c", "1", *(("-B", place.source) if place.source else ()), place.url)


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
)
