"""socat, a process for each connection.

http://www.dest-unreach.org/socat/doc/socat.html: ``bind``.
"""

from twlab.atlas.subject import PORT, Place, Subject


def _arguments(place: Place) -> tuple[str, ...]:
    source = f",bind={place.source}" if place.source else ""
    return ("-d", f"TCP4-LISTEN:{PORT},reuseaddr,fork", f"TCP4:{place.address}{source}")


SUBJECTS = (
    Subject(
        name="socat",
        program="socat",
        relays=True,
        package="socat",
        arguments=_arguments,
        source="TCP4:...,bind=ADDRESS",
        version=("-V",),
    ),
)
