"""microsocks, a small SOCKS server.

https://github.com/rofl0r/microsocks: ``-b``.
"""

from twlab.atlas.subject import PORT, Place, Subject


def _arguments(place: Place) -> tuple[str, ...]:
    return ("-i", "0.0.0.0", "-p", str(PORT), *(("-b", place.source) if place.source else ()))


SUBJECTS = (
    Subject(
        name="microsocks",
        program="microsocks",
        relays=True,
        package="microsocks",
        arguments=_arguments,
        speaks="socks",
        source="-b ADDRESS",
        version=(),
    ),
)
