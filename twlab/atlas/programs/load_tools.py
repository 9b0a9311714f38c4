"""Tools that make load: ab, h2load, hey, siege; one request each, a connection for it.

``wrk`` cannot be told to send one request: it is told to stop after a second.
"""

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
    _tool("h2load", "nghttp2-client", "--h1", "-n", "1", "-c", "1"),
    _tool("hey", "hey", "-n", "1", "-c", "1", "-disable-keepalive", version=()),
    _tool("siege", "siege", "--once", "--concurrent=1", "--quiet", "--reps=1"),
)
