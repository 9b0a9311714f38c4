"""sslh, which passes HTTP on to the origin.

https://www.rutschle.net/tech/sslh/README.html.
"""

from twlab.atlas.subject import PORT, Subject

SUBJECTS = (
    Subject(
        name="sslh",
        program="sslh",
        relays=True,
        package="sslh",
        arguments=lambda place: ("--foreground", f"--listen=0.0.0.0:{PORT}", f"--http={place.address}"),
        version=("-V",),
    ),
)
