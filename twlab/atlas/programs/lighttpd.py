"""lighttpd's mod_proxy.

https://redmine.lighttpd.net/projects/lighttpd/wiki/Mod_proxy.
"""

import re
from functools import partial

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place, more: str) -> dict[str, str]:
    text = f"""\
server.port = {PORT}
server.document-root = "{{folder}}"
server.errorlog = "{{folder}}/error.log"
server.upload-dirs = ( "{{folder}}" )
server.modules = ( "mod_proxy" )
proxy.server = ( "" => (( "host" => "{place.origin}", "port" => {place.port}{more} )) )
"""
    return {"lighttpd.conf": text}


SUBJECTS = tuple(
    Subject(
        name=name,
        program="lighttpd",
        package="lighttpd",
        arguments=lambda _: ("-D", "-f", "{folder}/lighttpd.conf"),
        files=partial(_files, more=more),
        version=("-v",),
        log="error.log",
        complaint=re.compile(r"(Cannot assign requested address|all handlers for .* are down)"),
    )
    for name, more in (("lighttpd", ""), ("lighttpd-disable-0", ', "disable-time" => 0'))
)
