"""The command line that collects, on another machine, what a diagnosis needs.

It changes nothing there.
"""

from __future__ import annotations

# ss asks inet_diag, which would load the module tcp_diag where it is neither loaded nor built in.
# /proc/net/tcp has the same sockets then.
_SCRIPT = """\
h() { echo "==> $* <=="; "$@" 2>/dev/null; };
if [ ! -e /proc/modules ] || grep -qs tcp_diag /proc/modules /lib/modules/$(uname -r)/modules.builtin; \
then h ss -tanoeip --inet-sockopt || h ss -tanoeip; fi;
h cat /proc/net/tcp; h cat /proc/net/tcp6; h cat /proc/net/netstat; h cat /proc/net/snmp; h cat /proc/net/sockstat;
h cat /proc/net/stat/nf_conntrack; h cat /proc/net/ip_vs; h cat /proc/net/ip_vs_conn;
h grep -s . /proc/sys/kernel/hostname /proc/sys/kernel/osrelease /proc/sys/net/ipv4/ip_local_port_range \
/proc/sys/net/ipv4/ip_local_reserved_ports /proc/sys/net/ipv4/ip_local_port_step_width /proc/sys/net/ipv4/tcp_tw_reuse \
/proc/sys/net/ipv4/tcp_tw_reuse_delay /proc/sys/net/ipv4/tcp_tw_recycle /proc/sys/net/ipv4/tcp_timestamps \
/proc/sys/net/ipv4/tcp_timewait_len /proc/sys/net/ipv4/tcp_tw_timeout \
/proc/sys/net/ipv4/tcp_max_tw_buckets /proc/sys/net/ipv4/tcp_fin_timeout /proc/sys/net/ipv4/tcp_rfc1337 \
/proc/sys/net/ipv4/vs/conn_reuse_mode /proc/sys/net/ipv4/vs/conntrack /proc/sys/net/ipv4/vs/expire_nodest_conn \
/proc/sys/net/netfilter/nf_conntrack_count /proc/sys/net/netfilter/nf_conntrack_max; true"""


def command() -> str:
    """Return a line for sh, to be piped to `twlab diagnose -`."""
    return "sh -c '" + " ".join(_SCRIPT.split()) + "'"
