"""Privoxy, a forward proxy, without filters.

https://www.privoxy.org/user-manual/config.html.
"""

from twlab.atlas.subject import PORT, Place, Subject


def _files(_: Place) -> dict[str, str]:
    text = f"""\
confdir {{folder}}
logdir {{folder}}
templdir /etc/privoxy/templates
listen-address :{PORT}
debug 4096
debug 8192
"""
    return {"config": text}


SUBJECTS = (
    Subject(
        name="privoxy",
        program="privoxy",
        package="privoxy",
        arguments=lambda _: ("--no-daemon", "{folder}/config"),
        files=_files,
        speaks="forward",
    ),
)
