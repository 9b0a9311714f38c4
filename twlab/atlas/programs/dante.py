"""Dante's SOCKS server, which always names its address.

https://www.inet.no/dante/doc/1.4.x/config/server.html: ``external``.
"""

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    text = f"""\
logoutput: {{folder}}/danted.log
internal: 0.0.0.0 port = {PORT}
external: {place.own}
socksmethod: none
clientmethod: none
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0 }}
"""
    return {"danted.conf": text}


SUBJECTS = (
    Subject(
        name="dante",
        program="danted",
        relays=True,
        package="dante-server",
        arguments=lambda _: ("-f", "{folder}/danted.conf", "-p", "{folder}/danted.pid", "-N", "1"),
        files=_files,
        speaks="socks",
        version=("-v",),
        log="danted.log",
    ),
)
