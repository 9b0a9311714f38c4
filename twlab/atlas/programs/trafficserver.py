"""Apache Traffic Server as a reverse proxy, with its cache off.

https://docs.trafficserver.apache.org/en/9.2.x/admin-guide/files/records.config.en.html:
``proxy.local.outgoing_ip_to_bind``.
"""

import re

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    records = f"""\
CONFIG proxy.config.http.server_ports STRING {PORT}
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.exec_thread.autoconfig.enabled INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.diags.logfile.filename STRING diags.log
CONFIG proxy.config.local_state_dir STRING .
CONFIG proxy.config.log.logfile_dir STRING .
CONFIG proxy.config.disable_configuration_modification INT 1
CONFIG proxy.config.admin.user_id STRING #-1
{f"LOCAL proxy.local.outgoing_ip_to_bind STRING {place.source}" if place.source else ""}
"""
    layout = """\
prefix: {folder}
exec_prefix: /usr
bindir: /usr/bin
sbindir: /usr/sbin
sysconfdir: {folder}
runtimedir: {folder}
logdir: {folder}
cachedir: {folder}
libexecdir: /usr/lib/trafficserver/modules
"""
    return {
        "runroot.yaml": layout,
        "records.config": records,
        "remap.config": f"map / http://{place.address}/\n",
        "storage.config": "",
        "plugin.config": "",
        "ip_allow.yaml": "ip_allow:\n  - {apply: in, ip_addrs: 0/0, action: allow, methods: ALL}\n",
    }


SUBJECTS = (
    Subject(
        name="trafficserver",
        program="traffic_server",
        package="trafficserver",
        arguments=lambda _: ("--run-root={folder}/runroot.yaml",),
        files=_files,
        source="proxy.local.outgoing_ip_to_bind ADDRESS",
        version=("-V",),
        log="diags.log",
        complaint=re.compile(r"(Cannot assign requested address|Address already in use)"),
    ),
)
