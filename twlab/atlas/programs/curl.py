"""curl, a process for each request.

https://curl.se/docs/manpage.html: ``--interface``, ``--local-port``.
"""

from collections.abc import Callable

from twlab.atlas.subject import Place, Subject

_STATUSES = {7: "exit 7 (no connection)", 45: "exit 45 (bind failed)", 52: "exit 52 (no answer)"}


def _arguments(*more: str) -> Callable[[Place], tuple[str, ...]]:
    def arguments(place: Place) -> tuple[str, ...]:
        source = ("--interface", place.source) if place.source else ()
        return ("--silent", "--show-error", "--fail", *more, *source, place.url)

    return arguments


SUBJECTS = tuple(
    Subject(
        name=name,
        program="curl",
        package="curl",
        arguments=_arguments(*more),
        runs="once",
        source="--interface ADDRESS",
        statuses=_STATUSES,
        methods=("GET",),
    )
    for name, more in (("curl", ()), ("curl-local-port", ("--local-port", "40000-40009")))
)
