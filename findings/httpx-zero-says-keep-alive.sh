#!/usr/bin/env bash
# httpx without keep-alive, and requests.get, tell the server to keep a connection that they are about to close.
#
# Guess: a client that will not use a connection again says so, with "Connection: close".
# Happened: httpx with max_keepalive_connections=0, httpx.get and requests.get send "Connection: keep-alive" and
# close right after the answer. So the client closes first, and has the TIME_WAIT and the port in it. aiohttp with
# force_close=True and urllib say "close"; then a server may close first, and the port is the server's.
# Matters to: users who switch keep-alive off and look for the TIME_WAIT on the other end; a header is set by hand:
# headers={"Connection": "close"}.
# Versions: httpx 0.28.1, requests 2.34.2, aiohttp 3.14.5, Python 3.11.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi httpx==0.28.1 requests==2.34.2 aiohttp==3.14.5

cat >ask.py <<'PY'
import asyncio
import socket
import threading
import urllib.request

import aiohttp
import httpx
import requests

listener = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{listener.getsockname()[1]}/"


def serve_one(what: str) -> None:
    """Answer one request, never close first, and say what the client asked for and did."""
    connection, _ = listener.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    asked = [line for line in request.decode().lower().split("\r\n") if line.startswith("connection:")]
    server_closes = asked == ["connection: close"]
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    if server_closes:
        connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
    connection.close()
    print(f"{what}: {asked[0]}; first to close may be the {'server' if server_closes else 'client only'}")


def with_httpx() -> None:
    with httpx.Client(limits=httpx.Limits(max_keepalive_connections=0)) as client:
        client.get(url)


async def with_aiohttp() -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        async with session.get(url) as response:
            await response.text()


for what, ask in (
    ("httpx, max_keepalive_connections=0", with_httpx),
    ("httpx.get", lambda: httpx.get(url)),
    ("requests.get", lambda: requests.get(url)),
    ("aiohttp, force_close", lambda: asyncio.run(with_aiohttp())),
    ("urllib", lambda: urllib.request.urlopen(url).read()),
):
    server = threading.Thread(target=serve_one, args=(what,))
    server.start()
    ask()
    server.join()
PY
alone python3 ask.py >seen

expect <<'SEEN'
httpx, max_keepalive_connections=0: connection: keep-alive; first to close may be the client only
httpx.get: connection: keep-alive; first to close may be the client only
requests.get: connection: keep-alive; first to close may be the client only
aiohttp, force_close: connection: close; first to close may be the server
urllib: connection: close; first to close may be the server
SEEN
