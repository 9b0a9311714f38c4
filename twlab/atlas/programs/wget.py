"""wget, a process for each request.

https://www.gnu.org/software/wget/manual/wget.html: ``--bind-address``, ``--tries``.
"""

from twlab.atlas.subject import Place, Subject


def _arguments(place: Place) -> tuple[str, ...]:
    source = (f"--bind-address={place.source}",) if place.source else ()
    return ("--no-verbose", "--output-document=/dev/null", *source, place.url)


SUBJECTS = (
    Subject(
        name="wget",
        program="wget",
        package="wget",
        arguments=_arguments,
        runs="once",
        source="--bind-address=ADDRESS",
        statuses={4: "exit 4 (network)"},
        methods=("GET",),
    ),
)
