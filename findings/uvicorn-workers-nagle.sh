#!/usr/bin/env bash
# With more than one worker, uvicorn's answers on a kept connection wait 40 ms for an acknowledgement.
#
# Guess: how many workers serve makes no difference to how long one answer takes; asyncio sets TCP_NODELAY
# on every connection since Python 3.6.
# Happened: with one worker asyncio makes the listening socket and the answer comes at once. With
# --workers 2 (and with --reload or sockets=) uvicorn makes it, with protocol 0, and asyncio sets the
# option only where the protocol reads IPPROTO_TCP. The body waits behind the head: Nagle at the server,
# a delayed acknowledgement at the client. CPython's issue 148783 has the same cause on macOS.
# Matters to: every answer of a head and a body, to clients that keep connections; a proxy in front of it
# adds the 40 ms to each request, and no log names them.
# Versions: Python 3.11.7, uvicorn 0.54.0, Linux 6.18.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi uvicorn==0.54.0

cat >app.py <<'PY'
async def app(scope, receive, send):
    if scope["type"] == "http":
        length = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"hello"})
PY
cat >ask.py <<'PY'
import http.client
import statistics
import subprocess
import sys
import time

command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "8000", "--log-level", "critical", "--lifespan", "off"]
server = subprocess.Popen([*command, "--workers", sys.argv[1]])
try:
    connection = http.client.HTTPConnection("127.0.0.1", 8000)
    while True:
        try:
            connection.connect()
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    took_s = []
    for _ in range(40):
        began_s = time.monotonic()
        connection.request("GET", "/")
        connection.getresponse().read()
        took_s.append(time.monotonic() - began_s)
    late = statistics.median(took_s) > 0.035
    print(f"--workers {sys.argv[1]}: {'each answer waits 40 ms' if late else 'at once'}")
finally:
    server.terminate()
    server.wait()
PY
for workers in 1 2; do alone python3 ask.py $workers; done >seen

expect <<'SEEN'
--workers 1: at once
--workers 2: each answer waits 40 ms
SEEN
