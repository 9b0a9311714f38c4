"""What other tools print about TCP, a format a module: ss, netstat, /proc/net/tcp, nstat, sysctl,
conntrack, HAProxy, sos reports.
"""
