"""Apache's mod_proxy, with its event MPM.

https://httpd.apache.org/docs/2.4/mod/mod_proxy.html: ``ProxyPass``, ``ProxySourceAddress``.
"""

import re

from twlab.atlas.subject import PORT, Place, Subject

_MODULES = ("mpm_event", "authz_core", "proxy", "proxy_http")


def _files(place: Place) -> dict[str, str]:
    modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in _MODULES)
    text = f"""\
ServerRoot {{folder}}
DefaultRuntimeDir {{folder}}
PidFile {{folder}}/apache.pid
ServerName proxy
Listen {PORT}
{modules}
# One child: each has a pool of its own.
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
ErrorLog {{folder}}/error.log
ProxyPass / http://{place.address}/
{f"ProxySourceAddress {place.source}" if place.source else ""}
"""
    return {"apache.conf": text}


SUBJECTS = (
    Subject(
        name="apache",
        program="apache2",
        package="apache2",
        arguments=lambda _: ("-D", "FOREGROUND", "-f", "{folder}/apache.conf"),
        files=_files,
        source="ProxySourceAddress ADDRESS",
        version=("-v",),
        log="error.log",
        complaint=re.compile(r"(\(9[89]\)[^:]*: AH\d+)"),
    ),
)
