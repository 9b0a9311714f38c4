#!/usr/bin/env bash
# requests cannot open a link-local URL that urllib3, on which it is built, opens in both spellings.
#
# Guess: http://[fe80::1%25eth0]/ (RFC 6874) works in requests as in urllib3 and curl, and none of the
# clients sends the zone, which means something on this machine only, in its Host header.
# Happened: requests quotes the "%25" or "%" once more than it is unquoted, and asks the resolver for
# fe80::1%25eth0, whichever way it is written. httpx and aiohttp take only the bare "%", which RFC 6874
# does not allow, and send the zone to the server in Host; so does urllib.
# Matters to: tools that reach neighbours by link-local address: code that works with one client fails
# with "name not known" in another, and a server that checks Host sees a foreign interface's name.
# Versions: requests 2.34.2, urllib3 2.8.0, httpx 0.28.1, aiohttp 3.14.5 (yarl 1.25.1), Python 3.11.7, curl 7.88.1.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi requests==2.34.2 urllib3==2.8.0 httpx==0.28.1 aiohttp==3.14.5 yarl==1.25.1
deb curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15

cat >zone.py <<'PY'
import asyncio
import http.server
import socket
import subprocess
import threading
import urllib.request

import aiohttp
import httpx
import requests
import urllib3


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the Host header."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def log_message(self, *_: object) -> None:
        pass


async def with_aiohttp(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


clients = {
    "curl": lambda url: subprocess.check_output(["curl", "-s", url], text=True),
    "urllib3": lambda url: urllib3.request("GET", url, retries=False).data.decode(),
    "requests": lambda url: requests.get(url).text,
    "urllib": lambda url: urllib.request.urlopen(url).read().decode(),
    "httpx": lambda url: httpx.get(url).text,
    "aiohttp": lambda url: asyncio.run(with_aiohttp(url)),
}
server = Server(("::", 8000), Echo)
threading.Thread(target=server.serve_forever, daemon=True).start()
for url in "http://[fe80::1%25lab0]:8000/", "http://[fe80::1%lab0]:8000/":
    print(url)
    for name, get in clients.items():
        try:
            print(f"  {name}: Host: {get(url)}")
        except (OSError, httpx.HTTPError) as error:
            print(f"  {name}: {type(error).__name__}")
PY
alone sh -c 'ip link add lab0 type veth peer name lab1 && ip addr add fe80::1/64 dev lab0 nodad &&
    ip link set lab0 up && ip link set lab1 up && python3 zone.py' >seen

expect <<'SEEN'
http://[fe80::1%25lab0]:8000/
  curl: Host: [fe80::1]:8000
  urllib3: Host: [fe80::1]:8000
  requests: ConnectionError
  urllib: Host: [fe80::1%lab0]:8000
  httpx: ConnectError
  aiohttp: ClientConnectorError
http://[fe80::1%lab0]:8000/
  curl: Host: [fe80::1]:8000
  urllib3: Host: [fe80::1]:8000
  requests: ConnectionError
  urllib: Host: [fe80::1%lab0]:8000
  httpx: Host: [fe80::1%lab0]:8000
  aiohttp: Host: [fe80::1%lab0]:8000
SEEN
