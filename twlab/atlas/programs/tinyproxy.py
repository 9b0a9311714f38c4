"""Tinyproxy, a forward proxy.

https://tinyproxy.github.io/: ``Bind``.
"""

import re

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    text = f"""\
Port {PORT}
Timeout 600
MaxClients 100
LogLevel Info
{f"Bind {place.source}" if place.source else ""}
"""
    return {"tinyproxy.conf": text}


SUBJECTS = (
    Subject(
        name="tinyproxy",
        program="tinyproxy",
        package="tinyproxy-bin",
        arguments=lambda _: ("-d", "-c", "{folder}/tinyproxy.conf"),
        files=_files,
        speaks="forward",
        source="Bind ADDRESS",
        version=("-v",),
        complaint=re.compile(r"(opensock: Could not establish a connection|Cannot assign requested|already in use)"),
    ),
)
