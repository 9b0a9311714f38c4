#!/usr/bin/env bash
# Squid closes an idle connection to the origin for every POST, and opens another one for it.
#
# Guess: a POST, which Squid cannot send again, goes out on a new connection, as squid.conf.documented says of
# server_pconn_for_nonretriable; the idle connections stay for the GETs that follow.
# Happened: an idle connection that works is closed first, by Squid, so that it leaves a TIME_WAIT there. With one
# client that asks in turns no connection lives past a POST. So it is for PUT and PATCH, whose bodies Squid does
# not keep; DELETE and OPTIONS take the idle connection. `server_pconn_for_nonretriable allow all` ends it.
# Matters to: Squid before an API: persistent connections are on, and its ports run out at the rate of the POSTs.
# Versions: Squid 5.7 (Debian 12); src/pconn.cc, PconnPool::popStored.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
root
needs setpriv python3
deb squid=5.7-2+deb12u6 squid-common=5.7-2+deb12u6

cat >origin.py <<'PY'
import itertools
import pathlib
import socketserver

numbers, closed = itertools.count(1), []


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        number = next(numbers)
        while self.rfile.readline():
            length = 0
            while header := self.rfile.readline().strip():
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            self.rfile.read(length)
            body = b"connection %d" % number
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        closed.append(number)
        pathlib.Path("closed").write_text(f"closed by Squid so far: {closed}")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


Server(("127.0.0.1", 8000), Handler).serve_forever()
PY
cat >ask.py <<'PY'
import http.client
import pathlib
import time

client = http.client.HTTPConnection("127.0.0.1", 3128)
for method in ("GET", "GET", "POST", "GET", "DELETE", "PUT", "OPTIONS", "PATCH", "GET"):
    client.request(method, "http://127.0.0.1:8000/", body=b"x=1" if method in ("POST", "PUT", "PATCH") else None)
    answer = client.getresponse().read().decode()
    time.sleep(0.5)
    print(f"{method:8}{answer}, {pathlib.Path('closed').read_text()}")
PY
cat >squid.sh <<'SH'
mount -t tmpfs none /dev/shm
chmod 777 .
printf '%s\n' "http_port 127.0.0.1:3128" "http_access allow all" "cache deny all" "$1" "pid_filename none" \
    "cache_log $PWD/log" "access_log none" "coredump_dir $PWD" "visible_hostname test" >conf
printf "closed by Squid so far: []" >closed
python3 origin.py &
setpriv --reuid 1001 --clear-groups squid -N -f "$PWD/conf" 2>complaints &
tries=0
until grep -q 'Accepting HTTP' log 2>/dev/null || [ $tries = 300 ]; do tries=$((tries + 1)) && sleep 0.1; done
python3 ask.py
rm log
SH
for line in "server_persistent_connections on" "server_pconn_for_nonretriable allow all"; do
    echo "$line"
    alone sh squid.sh "$line"
done >seen

expect <<'SEEN'
server_persistent_connections on
GET     connection 1, closed by Squid so far: []
GET     connection 1, closed by Squid so far: []
POST    connection 2, closed by Squid so far: [1]
GET     connection 2, closed by Squid so far: [1]
DELETE  connection 2, closed by Squid so far: [1]
PUT     connection 3, closed by Squid so far: [1, 2]
OPTIONS connection 3, closed by Squid so far: [1, 2]
PATCH   connection 4, closed by Squid so far: [1, 2, 3]
GET     connection 4, closed by Squid so far: [1, 2, 3]
server_pconn_for_nonretriable allow all
GET     connection 1, closed by Squid so far: []
GET     connection 1, closed by Squid so far: []
POST    connection 1, closed by Squid so far: []
GET     connection 1, closed by Squid so far: []
DELETE  connection 1, closed by Squid so far: []
PUT     connection 1, closed by Squid so far: []
OPTIONS connection 1, closed by Squid so far: []
PATCH   connection 1, closed by Squid so far: []
GET     connection 1, closed by Squid so far: []
SEEN
