"""HAProxy, nginx, Squid and Varnish: configurations, and how they run on a node.

A `Software` is one of them. It knows several *ways* to reach the origin. Each is a
configuration that differs from the others only in that way, with the reason beside it.
`twlab.proxies.load_test` runs one under load.
"""

from twlab.proxies.haproxy import HAPROXY
from twlab.proxies.nginx import NGINX
from twlab.proxies.software import Software, Upstream
from twlab.proxies.squid import SQUID

__all__ = ["HAPROXY", "NGINX", "SOFTWARE", "SQUID", "Software", "Upstream"]

SOFTWARE = {software.name: software for software in (HAPROXY, NGINX, SQUID)}
