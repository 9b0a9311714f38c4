#!/usr/bin/env bash
# curl and wget send a POST a second time when a kept connection closes without an answer.
#
# Guess: like requests, httpx, aiohttp, Go and Node, they repeat at most GET: RFC 9110 9.2.2 asks a client
# not to repeat a POST by itself.
# Happened: the origin answers one request, reads the next one (POST) whole, and closes. curl and wget
# connect again and send the POST again, without an option that asks for it. The origin carries it out
# twice; curl's exit status is 0, and its -w num_connects alone shows the second connection.
# requests and aiohttp report an error for the same POST.
# Matters to: scripts that send several requests with one curl (--next, several URLs), and users of
# libcurl: an origin that ends idle connections makes two orders of one. A fresh connection is not retried.
# curl's man page, --retry: no retries is the default.
# Versions: curl 7.88.1, libcurl in pycurl 7.49.0, wget 1.21.3, requests 2.34.2, aiohttp 3.14.5.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi pycurl==7.49.0 requests==2.34.2 aiohttp==3.14.5
deb curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15 wget=1.21.3-1+deb12u1

cat >race.py <<'PY'
import asyncio
import http.server
import io
import subprocess
import threading

import aiohttp
import pycurl
import requests

seen = []


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers the first request of a connection; reads the next one and closes."""

    protocol_version = "HTTP/1.1"
    earlier = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        seen.append(self.path)
        self.earlier += 1
        self.close_connection = self.earlier > 1
        if not self.close_connection:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def with_pycurl(first: str, second: str) -> None:
    handle = pycurl.Curl()
    for url in first, second:
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.POSTFIELDS, "x=1")
        handle.setopt(pycurl.WRITEDATA, io.BytesIO())
        handle.perform()


def with_requests(first: str, second: str) -> None:
    with requests.Session() as session:
        for url in first, second:
            session.post(url, data="x=1")


async def with_aiohttp(first: str, second: str) -> None:
    async with aiohttp.ClientSession() as session:
        for url in first, second:
            await (await session.post(url, data="x=1")).read()


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Origin)
threading.Thread(target=server.serve_forever, daemon=True).start()
first, second = "http://127.0.0.1:8000/1", "http://127.0.0.1:8000/2"
for name, client in {
    "curl": lambda: run("curl", "-sS", "-d", "x=1", first, second),
    "pycurl": lambda: with_pycurl(first, second),
    "wget": lambda: run("wget", "-q", "-O-", "--post-data=x=1", first, second),
    "requests": lambda: with_requests(first, second),
    "aiohttp": lambda: asyncio.run(with_aiohttp(first, second)),
}.items():
    seen.clear()
    try:
        client()
        end = "success"
    except (requests.ConnectionError, aiohttp.ServerDisconnectedError) as error:
        end = type(error).__name__
    print(f"{name}: {end}, the origin read POST /2 {seen.count('/2')} times")
PY
alone python3 race.py >seen

expect <<'SEEN'
curl: success, the origin read POST /2 2 times
pycurl: success, the origin read POST /2 2 times
wget: success, the origin read POST /2 2 times
requests: ConnectionError, the origin read POST /2 1 times
aiohttp: ServerDisconnectedError, the origin read POST /2 1 times
SEEN
