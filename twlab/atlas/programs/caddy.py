"""Caddy's reverse_proxy.

https://caddyserver.com/docs/caddyfile/directives/reverse_proxy.
"""

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    text = f"""\
{{
    admin off
    auto_https off
    storage file_system {{folder}}
}}
:{PORT} {{
    reverse_proxy {place.address}
}}
"""
    return {"Caddyfile": text}


SUBJECTS = (
    Subject(
        name="caddy",
        program="caddy",
        package="caddy",
        arguments=lambda _: ("run", "--config", "{folder}/Caddyfile", "--adapter", "caddyfile"),
        files=_files,
        version=("version",),
    ),
)
