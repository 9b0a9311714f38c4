#!/usr/bin/env bash
# Node, uvicorn, aiohttp and Tornado do not answer a client that ends its sending side after the request.
#
# Guess: an HTTP server answers a request that arrived whole; a FIN from the client (a half-close) says
# only that no further request follows, as TCP means it.
# Happened: of five servers whose answer takes half a second, Python's http.server alone sends it. The
# others take the FIN for a disconnect and close without a byte; uvicorn and aiohttp run the handler to
# its end all the same, and its work is lost without an error.
# Matters to: clients such as `printf ... | nc -N`, socat, and TCP proxies that pass a half-close on (HAProxy
# in TCP mode does): fast answers arrive, slow ones do not.
# Versions: Node 20.20.2, uvicorn 0.54.0 (h11 0.16.0), aiohttp 3.14.5, Tornado 6.6.1, Python 3.11.7.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi uvicorn==0.54.0 h11==0.16.0 aiohttp==3.14.5 tornado==6.6.1
needs node

cat >servers.py <<'PY'
import asyncio
import http.server
import sys
import time

import aiohttp.web
import tornado.web
import uvicorn

PORT = 8000


class Blocking(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(0.5)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"done")

    def log_message(self, *_: object) -> None:
        pass


async def asgi(scope: dict, receive: object, send: object) -> None:
    if scope["type"] == "http":
        await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
        print("handler ran to its end;", end=" ", flush=True)


async def handle(_: aiohttp.web.Request) -> aiohttp.web.Response:
    await asyncio.sleep(0.5)
    print("handler ran to its end;", end=" ", flush=True)
    return aiohttp.web.Response(text="done")


class Page(tornado.web.RequestHandler):
    async def get(self) -> None:
        await asyncio.sleep(0.5)
        self.write("done")


async def with_tornado() -> None:
    tornado.web.Application([("/", Page)]).listen(PORT, "127.0.0.1")
    await asyncio.Event().wait()


def with_aiohttp() -> None:
    application = aiohttp.web.Application()
    application.router.add_get("/", handle)
    aiohttp.web.run_app(application, host="127.0.0.1", port=PORT, print=None)


{
    "http.server": lambda: http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Blocking).serve_forever(),
    "uvicorn": lambda: uvicorn.run(asgi, host="127.0.0.1", port=PORT, log_level="error", http="h11"),
    "aiohttp": with_aiohttp,
    "tornado": lambda: asyncio.run(with_tornado()),
}[sys.argv[1]]()
PY
cat >client.py <<'PY'
import socket
import sys
import time

for half_close in (False, True):
    for _ in range(600):
        try:
            connection = socket.create_connection(("127.0.0.1", 8000))
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    if half_close:
        connection.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: connection.recv(4096), b""))
    time.sleep(1)
    how, result = "half-closed:" if half_close else "open:", "answered" if b"done" in answer else "nothing"
    print(sys.argv[1], how, result, flush=True)
PY
cat >server.js <<'JS'
require("http").createServer((_, answer) => setTimeout(() => answer.end("done"), 500)).listen(8000, "127.0.0.1");
JS
for server in http.server aiohttp uvicorn tornado node; do
    start=(python3 servers.py "$server")
    [ "$server" != node ] || start=(node server.js)
    # shellcheck disable=SC2016
    alone sh -c 'server=$1; shift; "$@" & python3 client.py "$server"' sh "$server" "${start[@]}"
done >seen

expect <<'SEEN'
http.server open: answered
http.server half-closed: answered
handler ran to its end; aiohttp open: answered
handler ran to its end; aiohttp half-closed: nothing
handler ran to its end; uvicorn open: answered
handler ran to its end; uvicorn half-closed: nothing
tornado open: answered
tornado half-closed: nothing
node open: answered
node half-closed: nothing
SEEN
