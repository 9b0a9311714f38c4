#!/usr/bin/env bash
# HAProxy turns an origin's RST in the middle of a body into the proper end of a complete answer.
#
# Guess: where the origin aborts a body that only the end of the connection delimits, HAProxy aborts
# towards the client as well, or marks the answer as cut.
# Happened: the client gets "200", the bytes so far, and FIN: by HTTP/1.1 a complete answer. curl reports
# success for the half file; without the proxy it reports the reset. nginx answers in chunks and leaves
# out the last one, so curl reports the cut. HAProxy's log alone has it (SD instead of --).
# Matters to: backups, exports and CGI answers without Content-Length behind HAProxy: an origin that dies
# leaves a shorter file and exit status 0. Content-Length or chunks at the origin make the cut visible.
# Versions: HAProxy 2.6.12, nginx 1.22.1, curl 7.88.1.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
root
deb haproxy=2.6.12-1+deb12u4 liblua5.3-0=5.3.6-2 nginx=1.22.1-9+deb12u11 \
    libopentracing-c-wrapper0=1.1.3-3+b1 libopentracing1=1.6.0-4 \
    curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15
needs python3

cat >origin.py <<'PY'
import socket
import struct
import time

HEADS = {
    b"/plain": b"Connection: close\r\n\r\n",
    b"/length": b"Content-Length: 2000\r\n\r\n",
}
with socket.create_server(("127.0.0.1", 8000)) as listener:
    while True:
        connection, _ = listener.accept()
        path = connection.recv(4096).split()[1]
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + HEADS[path] + b"x" * 1000)
        time.sleep(0.5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
PY
cat >haproxy.cfg <<'CFG'
defaults
    mode http
    timeout connect 3s
    timeout client 9s
    timeout server 9s
    log stdout format raw local0
    log-format "log: %ts"
listen proxy
    bind 127.0.0.1:8001
    server origin 127.0.0.1:8000
CFG
cat >nginx.conf <<'CFG'
daemon off; master_process off; pid nginx.pid; error_log nginx.log; events {}
http {
    access_log off; client_body_temp_path t1; proxy_temp_path t2;
    fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    server { listen 127.0.0.1:8002; location / { proxy_pass http://127.0.0.1:8000; } }
}
CFG
cat >ask.sh <<'SH'
python3 origin.py &
haproxy -f haproxy.cfg >haproxy.log 2>&1 &
nginx -p "$PWD" -c "$PWD/nginx.conf" 2>/dev/null &
for port in 8001 8002; do
    until curl -s -o /dev/null http://127.0.0.1:$port/length || [ $? = 18 ]; do sleep 0.2; done
done
for path in plain length; do
    for way in 8000:direct 8001:HAProxy 8002:nginx; do
        end=0
        size=$(curl -s -w '%{http_code} %{size_download}' -o /dev/null "http://127.0.0.1:${way%:*}/$path") || end=$?
        echo "$path, ${way#*:}: curl's exit status $end, answer and bytes $size"
    done
done
echo "HAProxy's log, plain: $(grep 'log: ' haproxy.log | tail -2 | head -1)"
SH
alone sh ask.sh >seen

expect <<'SEEN'
plain, direct: curl's exit status 56, answer and bytes 200 1000
plain, HAProxy: curl's exit status 0, answer and bytes 200 1000
plain, nginx: curl's exit status 18, answer and bytes 200 0
length, direct: curl's exit status 56, answer and bytes 200 1000
length, HAProxy: curl's exit status 18, answer and bytes 200 1000
length, nginx: curl's exit status 18, answer and bytes 200 0
HAProxy's log, plain: log: SD
SEEN
