"""lighttpd's mod_proxy.

https://redmine.lighttpd.net/projects/lighttpd/wiki/Mod_proxy.
"""

import re

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    text = f"""\
server.port = {PORT}
server.document-root = "{{folder}}"
server.errorlog = "{{folder}}/error.log"
server.upload-dirs = ( "{{folder}}" )
server.modules = ( "mod_proxy" )
proxy.server = ( "" => (( "host" => "{place.origin}", "port" => {place.port} )) )
"""
    return {"lighttpd.conf": text}


SUBJECTS = (
    Subject(
        name="lighttpd",
        program="lighttpd",
        package="lighttpd",
        arguments=lambda _: ("-D", "-f", "{folder}/lighttpd.conf"),
        files=_files,
        version=("-v",),
        log="error.log",
        complaint=re.compile(r"(Cannot assign requested address|all handlers for .* are down)"),
    ),
)
