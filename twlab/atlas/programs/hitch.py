"""Hitch: TLS from visitors, plain TCP to the origin.

https://www.hitch-tls.org/.
"""

from twlab.atlas.subject import CERTIFICATE, PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    text = f"""\
frontend = "[*]:{PORT}"
backend = "[{place.origin}]:{place.port}"
pem-file = "{{folder}}/both.pem"
workers = 1
"""
    return {"hitch.conf": text}


SUBJECTS = (
    Subject(
        name="hitch",
        program="hitch",
        relays=True,
        package="hitch",
        arguments=lambda _: ("--config={folder}/hitch.conf",),
        files=_files,
        speaks="tls",
        prepares=CERTIFICATE,
    ),
)
