#!/usr/bin/env bash
# With two upstream servers, nginx answers 502 for ten seconds after its own machine ran out of ports.
#
# Guess, from max_fails on the page ngx_http_upstream_module, "unsuccessful attempts to communicate with the
# server": a connect() that fails for want of a local port never left the machine, and is not counted.
# Happened: it is counted. One failure marks a server as down for fail_timeout (10 s); with two servers both
# are soon down, and nginx goes on with 502 without trying, although ports are free again. With one server
# line nginx ignores max_fails, as that page says, and answers as soon as a port is free.
# Matters to: proxies near their port limit: adding a second server turns a shortage of milliseconds into
# an outage of ten seconds. max_fails=0 avoids it.
# Versions: nginx 1.22.1, curl 7.88.1, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
root
deb nginx=1.22.1-9+deb12u11 curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15
needs python3

cat >origin.py <<'PY'
import socket
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.recv(4096)  # the close is nginx's: TIME_WAIT stays on its side
        connection.close()
PY
cat >nginx.conf <<'CFG'
daemon off; master_process off; pid nginx.pid; error_log nginx.log; events {}
http {
    access_log off; client_body_temp_path t1; proxy_temp_path t2;
    fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    upstream one { server 127.0.0.1:8001; }
    upstream two { server 127.0.0.1:8001; server 127.0.0.1:8002; }
    upstream lenient { server 127.0.0.1:8001 max_fails=0; server 127.0.0.1:8002 max_fails=0; }
    server { listen unix:one; location / { proxy_pass http://one; } }
    server { listen unix:two; location / { proxy_pass http://two; } }
    server { listen unix:lenient; location / { proxy_pass http://lenient; } }
}
CFG
cat >shortage.sh <<'SH'
ask() { curl -s -o /dev/null -w '%{http_code}' --unix-socket "$1" http://a/; }
sysctl -qw net.ipv4.tcp_tw_reuse=0
python3 origin.py 8001 &
python3 origin.py 8002 &
sleep 1
nginx -p "$PWD" -c "$PWD/nginx.conf" 2>/dev/null &
until curl -s -o /dev/null --unix-socket lenient http://a/; do sleep 0.1; done
low=40000
for upstream in one two lenient; do
    sysctl -qw net.ipv4.ip_local_port_range="$low $((low + 3))"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do last=$(ask $upstream); done
    low=$((low + 1000))
    sysctl -qw net.ipv4.ip_local_port_range="$low $((low + 99))"
    echo "$upstream: ports used up: $last; ports free again: $(ask $upstream), 11 s later: $(sleep 11; ask $upstream)"
    low=$((low + 1000))
done
grep -o 'Cannot assign requested address\|no live upstreams' nginx.log | sort -u
SH
alone sh shortage.sh >seen

expect <<'SEEN'
one: ports used up: 502; ports free again: 200, 11 s later: 200
two: ports used up: 502; ports free again: 502, 11 s later: 200
lenient: ports used up: 502; ports free again: 200, 11 s later: 200
Cannot assign requested address
no live upstreams
SEEN
