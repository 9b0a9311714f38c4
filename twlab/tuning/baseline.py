"""Pins each sysctl that matters for TCP at close, with the reason.

Every arm starts from these values, unless another world is asked for (``--defaults``). They belong
to a network namespace, so pinning them changes the lab's nodes only. Values are Linux's defaults
unless the reason says otherwise. They are pinned all the same: a namespace may inherit the values
of the machine's administrator, and some defaults follow the machine's memory. Where a kernel lacks
a sysctl it behaves as pinned (Linux 6.1 and later), so that kernels differ only where they are
meant to. `unpinned` has those that were looked at and left.

Source: Linux Documentation/networking/ip-sysctl.rst, nf_conntrack-sysctl.rst.
"""

from __future__ import annotations

from typing import NamedTuple

from twlab.ports import LINUX_PORT_COUNT, LINUX_PORTS


class Pin(NamedTuple):
    """One sysctl of the baseline.

    Attributes:
        sysctl: dotted name; a ``*`` stands for every interface, and for ``all`` and ``default``.
        value: as written to it.
        reason: why it is pinned, and to this value.
        needed: whether the lab needs it, so that it is in force in every world (`twlab.world`).
    """

    sysctl: str
    value: str
    reason: str
    needed: bool = False


LAB_KERNEL_ONLY = ("net.ipv4.tcp_timewait_len", "net.ipv4.tcp_tw_recycle", "net.ipv4.tcp_timestamp_offset")


BASELINE: tuple[Pin, ...] = (
    # TIME_WAIT itself
    Pin(
        "net.ipv4.tcp_timewait_len",
        "60000",
        "lab kernel only: 60 s in ms, which every other kernel has as a constant (TCP_TIMEWAIT_LEN)",
    ),
    Pin("net.ipv4.tcp_tw_recycle", "0", "lab kernel only: off, as on every kernel since 4.12, where it was removed"),
    Pin(
        "net.ipv4.tcp_tw_reuse", "0", "Linux: 2, for loopback only. The control must never take over a TIME_WAIT socket"
    ),
    Pin("net.ipv4.tcp_tw_reuse_delay", "1000", "matters once tw_reuse is on; before 6.14 a constant of one second"),
    Pin("net.ipv4.tcp_rfc1337", "0", "RST ends TIME_WAIT, which is what assassination needs"),
    Pin(
        "net.ipv4.tcp_max_tw_buckets",
        "262144",
        "the default follows the memory; more than any scenario makes, so that none is cut off unasked",
    ),
    Pin("net.ipv4.tcp_fin_timeout", "60", "life of an orphaned FIN_WAIT_2, often mistaken for a TIME_WAIT knob"),
    Pin(
        "net.ipv4.tcp_invalid_ratelimit",
        "500",
        "ms between two answers of one TIME_WAIT socket to unacceptable segments",
    ),
    Pin(
        "net.ipv4.tcp_challenge_ack_limit",
        "2147483647",
        "no limit over all sockets: an answer must not depend on the others",
    ),
    # timestamps and PAWS
    Pin("net.ipv4.tcp_timestamps", "1", "on, with a random offset for each connection (RFC 7323); PAWS rests on them"),
    Pin("net.ipv4.tcp_timestamp_offset", "0", "lab kernel only: the timestamp clock starts where Linux starts it"),
    # ports
    Pin(
        "net.ipv4.ip_unprivileged_port_start",
        "0",
        "Linux: 1024. A port range may begin anywhere, and a proxy without rights may listen on port 80",
        needed=True,
    ),
    Pin(
        "net.ipv4.ip_local_port_range",
        "{} {}".format(*LINUX_PORTS),
        f"{LINUX_PORT_COUNT} ports: the number in every statement on port exhaustion",
    ),
    Pin("net.ipv4.ip_local_reserved_ports", "", "none is left out of that range"),
    Pin(
        "net.ipv4.ip_local_port_step_width",
        "0",
        "newer than 6.18; off: ports are searched one after the other, as ever",
    ),
    Pin("net.ipv4.ip_autobind_reuse", "0", "bind to port 0 does not share ports that are in use"),
    Pin("net.ipv4.ip_nonlocal_bind", "0", "only addresses that the node has"),
    Pin("net.ipv6.ip_nonlocal_bind", "0", "only addresses that the node has"),
    Pin("net.ipv6.bindv6only", "0", "a listener on :: takes IPv4 connections too"),
    # connecting
    Pin("net.ipv4.tcp_syn_retries", "6", "with doubling from 1 s, connect() gives up after 127 s"),
    Pin(
        "net.ipv4.tcp_syn_linear_timeouts",
        "0",
        "Linux since 6.5: 4 retries at 1 s. Off: SYNs at 0, 1, 3, 7 s on every kernel",
    ),
    Pin("net.ipv4.tcp_synack_retries", "5", "a half-open connection is given up after 63 s"),
    Pin(
        "net.ipv4.tcp_syncookies",
        "1",
        "only when a backlog is full: a SYN answered by a cookie escapes the checks that scenarios are about",
    ),
    Pin("net.ipv4.tcp_max_syn_backlog", "4096", "the default follows the memory"),
    Pin("net.core.somaxconn", "4096", "bound of listen(); was 128 before 5.4"),
    Pin("net.ipv4.tcp_abort_on_overflow", "0", "a full accept queue drops, and does not reset"),
    Pin("net.ipv4.tcp_fastopen", "0", "Linux: 1. No data and no cookies in SYNs"),
    Pin("net.ipv4.tcp_migrate_req", "0", "connections stay with their listener"),
    # windows and buffers
    Pin(
        "net.ipv4.tcp_window_scaling",
        "1",
        "the window, and with it the chance of a stray segment to land in it, may pass 64 kB",
    ),
    Pin("net.ipv4.tcp_rmem", "4096 131072 6291456", "the maximum follows the memory; it bounds the window"),
    Pin("net.ipv4.tcp_wmem", "4096 16384 4194304", "the maximum follows the memory"),
    Pin("net.ipv4.tcp_moderate_rcvbuf", "1", "the receive buffer grows with the flow"),
    Pin(
        "net.ipv4.tcp_rcvbuf_low_rtt",
        "0",
        "Linux: 1000 us, newer than 6.18. Off: a receive buffer grows with its flow on short paths, too, as before",
    ),
    Pin("net.ipv4.tcp_adv_win_scale", "1", "share of the buffer that is offered as window, before 6.6"),
    Pin("net.ipv4.tcp_app_win", "31", "nothing of the window is kept back for the application"),
    Pin("net.ipv4.tcp_shrink_window", "0", "a window once offered stays offered"),
    Pin("net.ipv4.tcp_limit_output_bytes", "1048576", "Linux before 6.18; what one flow may have queued below TCP"),
    # loss and retransmission
    Pin("net.ipv4.tcp_sack", "1", "receivers say what they hold, also of segments not sent on this connection"),
    Pin("net.ipv4.tcp_dsack", "1", "receivers report duplicates"),
    Pin(
        "net.ipv4.tcp_comp_sack_nr",
        "0",
        "Linux: 44. Every segment out of order is answered at once, so that a capture shows each reaction",
    ),
    Pin("net.ipv4.tcp_comp_sack_rtt_percent", "33", "newer than 6.18: how long an answer may wait. None does here"),
    Pin("net.ipv4.tcp_backlog_ack_defer", "0", "Linux since 6.7: 1. As above"),
    Pin("net.ipv4.tcp_pingpong_thresh", "1", "one exchange makes a connection interactive, which delays its ACKs"),
    Pin(
        "net.ipv4.tcp_retrans_collapse",
        "0",
        "Linux: 1. A segment is sent again as it was sent first, so that it can be recognised",
    ),
    Pin(
        "net.ipv4.tcp_autocorking",
        "0",
        "Linux: 1. Whether small writes are joined would depend on how busy the machine is",
    ),
    Pin("net.ipv4.tcp_early_retrans", "3", "tail loss probe"),
    Pin("net.ipv4.tcp_recovery", "1", "RACK"),
    Pin("net.ipv4.tcp_frto", "2", "spurious timeouts are undone"),
    Pin("net.ipv4.tcp_reordering", "3", "duplicate ACKs that count as a loss, at first"),
    Pin("net.ipv4.tcp_max_reordering", "300", "and at most"),
    Pin("net.ipv4.tcp_retries1", "3", "retransmissions before the route is doubted"),
    Pin("net.ipv4.tcp_retries2", "15", "retransmissions before the connection is given up, about 924 s"),
    Pin(
        "net.ipv4.tcp_orphan_retries",
        "0",
        "which stands for 8: how long LAST_ACK and FIN_WAIT_1 last without an answer",
    ),
    Pin("net.ipv4.tcp_rto_min_us", "200000", "a constant before 6.11; with recycle, TIME_WAIT lasts 3.5 RTO"),
    Pin("net.ipv4.tcp_rto_max_ms", "120000", "a constant before 6.15"),
    Pin("net.ipv4.tcp_thin_linear_timeouts", "0", "timeouts double on thin streams too"),
    Pin(
        "net.ipv4.tcp_congestion_control",
        "reno",
        "in every kernel, and allowed to every user; the default is the distributor's choice",
    ),
    Pin(
        "net.ipv4.tcp_slow_start_after_idle", "0", "Linux: 1. A transfer after a long wait is as fast as the one before"
    ),
    Pin(
        "net.ipv4.tcp_no_metrics_save",
        "1",
        "Linux: 0. What one connection has learnt (RTT, window) must not change the next one",
    ),
    Pin("net.ipv4.tcp_ecn", "0", "Linux: 2, on request only. It is never requested here; no ECN flags in captures"),
    Pin("net.ipv4.tcp_ecn_option", "0", "Linux since 6.18: 2. AccECN's option; without ECN none is sent"),
    Pin("net.ipv4.tcp_ecn_option_beacon", "3", "since 6.18: how often that is sent at least"),
    Pin("net.ipv4.tcp_plb_enabled", "0", "flow labels do not change under way"),
    Pin("net.ipv4.tcp_mtu_probing", "0", "segments keep their size"),
    Pin("net.ipv4.ip_no_pmtu_disc", "0", "path MTU discovery as usual"),
    Pin("net.ipv4.ip_default_ttl", "64", "one hop more or less can be read off"),
    Pin("net.ipv4.tcp_reflect_tos", "0", "the type of service is the application's"),
    Pin("net.ipv4.tcp_keepalive_time", "7200", "no scenario is long enough for a probe"),
    Pin("net.ipv4.tcp_keepalive_intvl", "75", "for applications that ask for keep-alive"),
    Pin("net.ipv4.tcp_keepalive_probes", "9", "for applications that ask for keep-alive"),
    # addresses and routes
    Pin("net.ipv4.conf.*.rp_filter", "0", "distributions set 1 or 2, and injected segments may come from anywhere"),
    Pin("net.ipv4.conf.*.accept_redirects", "0", "routes are the topology's"),
    Pin("net.ipv4.conf.*.send_redirects", "0", "nothing but what a scenario sends"),
    Pin("net.ipv4.conf.*.accept_source_route", "0", "no source routing; tcp_tw_recycle's check asks for that"),
    Pin("net.ipv4.conf.*.log_martians", "0", "the machine's kernel log is not the lab's", needed=True),
    Pin("net.ipv6.conf.*.accept_redirects", "0", "routes are the topology's"),
    Pin("net.ipv6.conf.*.accept_ra", "0", "routes are the topology's"),
    Pin("net.ipv6.conf.*.autoconf", "0", "addresses are the topology's"),
    Pin("net.ipv6.conf.*.use_tempaddr", "0", "addresses are the topology's"),
    Pin("net.ipv6.conf.*.accept_dad", "0", "an address can be used at once"),
    Pin("net.ipv6.conf.*.router_solicitations", "0", "nothing but what a scenario sends"),
    Pin(
        "net.ipv6.auto_flowlabels",
        "0",
        "Linux: 1. Labels come from a key made at boot; a capture should come out the same each time",
    ),
    # NAT gateways: connection tracking
    Pin("net.netfilter.nf_conntrack_tcp_loose", "1", "connections are picked up in the middle"),
    Pin(
        "net.netfilter.nf_conntrack_tcp_be_liberal",
        "0",
        "segments outside the window are INVALID, and go through a NAT untranslated",
    ),
    Pin("net.netfilter.nf_conntrack_tcp_ignore_invalid_rst", "0", "a RST outside the window is INVALID too"),
    Pin("net.netfilter.nf_conntrack_tcp_max_retrans", "3", "retransmissions after which a shorter timeout applies"),
    Pin("net.netfilter.nf_conntrack_tcp_timeout_syn_sent", "120", "s; Linux's default"),
    Pin("net.netfilter.nf_conntrack_tcp_timeout_syn_recv", "60", "s; Linux's default"),
    Pin(
        "net.netfilter.nf_conntrack_tcp_timeout_established",
        "432000",
        "5 days; Linux's default. RFC 5382 asks for 2 h 4 min at least",
    ),
    Pin("net.netfilter.nf_conntrack_tcp_timeout_fin_wait", "120", "s; Linux's default"),
    Pin("net.netfilter.nf_conntrack_tcp_timeout_close_wait", "60", "s; Linux's default"),
    Pin("net.netfilter.nf_conntrack_tcp_timeout_last_ack", "30", "s; Linux's default"),
    Pin("net.netfilter.nf_conntrack_tcp_timeout_time_wait", "120", "s; twice the TIME_WAIT of the hosts behind it"),
    Pin("net.netfilter.nf_conntrack_tcp_timeout_close", "10", "s after a RST; less than a host's TIME_WAIT"),
    Pin("net.netfilter.nf_conntrack_tcp_timeout_max_retrans", "300", "s; Linux's default"),
    Pin("net.netfilter.nf_conntrack_tcp_timeout_unacknowledged", "300", "s; Linux's default"),
    Pin("net.netfilter.nf_flowtable_tcp_timeout", "30", "s; Linux's default, where there are flow tables"),
    Pin("net.netfilter.nf_conntrack_checksum", "1", "segments with a wrong checksum are INVALID"),
    Pin("net.netfilter.nf_conntrack_log_invalid", "0", "the machine's kernel log is not the lab's", needed=True),
    # IP Virtual Server
    Pin("net.ipv4.vs.conn_reuse_mode", "1", "Linux's default; kube-proxy up to 5.9 set 0"),
    Pin("net.ipv4.vs.conntrack", "0", "Linux's default; kube-proxy sets 1"),
    Pin("net.ipv4.vs.expire_nodest_conn", "0", "Linux's default; kube-proxy sets 1"),
)


def pinned(sysctl: str) -> str | None:
    """Return the baseline's value of `sysctl`; None if it is not pinned."""
    return next((pin.value for pin in BASELINE if pin.sysctl == sysctl), None)
