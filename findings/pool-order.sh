#!/usr/bin/env bash
# Which idle connection comes next: requests the newest, httpx and undici the oldest, aiohttp each in turn.
#
# Guess: all pools take the connection that was used last, so that what a burst left over grows old and is closed.
# Happened: after four requests at once, eight one after another went: requests (urllib3) and Node's Agent
# over the newest connection, httpx and undici over the oldest, aiohttp over all four in rotation.
# Matters to: sizing idle timeouts. With aiohttp one request every three seconds keeps four connections
# alive for ever: none reaches its idle limit of 15 s, and the origin holds them all.
# Versions: requests 2.34.2, httpx 0.28.1 (httpcore 1.0.9), aiohttp 3.14.5, undici 7.30.2, Node 20.20.2.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi requests==2.34.2 httpx==0.28.1 httpcore==1.0.9 aiohttp==3.14.5
npm undici@7.30.2

cat >origin.py <<'PY'
import http.server
import itertools
import subprocess
import threading
import time

numbers = itertools.count(1)


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers with the connection's number; /slow ends in the order of the connections."""

    protocol_version = "HTTP/1.1"
    number = 0

    def do_GET(self) -> None:
        self.number = self.number or next(numbers)
        if self.path == "/slow":
            time.sleep(1 + 0.3 * self.number)
        text = str(self.number).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Origin)
threading.Thread(target=server.serve_forever, daemon=True).start()
for client in ("python3 client.py requests", "node client.js http", "python3 client.py httpx",
               "node client.js undici", "python3 client.py aiohttp"):
    numbers = itertools.count(1)
    print(client.split()[-1], subprocess.check_output(client.split(), text=True).strip(), flush=True)
PY
cat >client.py <<'PY'
import asyncio
import concurrent.futures
import sys
import time

import aiohttp
import httpx
import requests

URL = "http://127.0.0.1:8000/"


def in_threads(session: requests.Session | httpx.Client) -> None:
    def get(number: int) -> None:
        time.sleep(0.2 * number)
        session.get(URL + "slow")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(get, range(4)))
    print(*[session.get(URL).text for _ in range(8)])


async def in_tasks() -> None:
    async with aiohttp.ClientSession() as session:

        async def get(path: str = "") -> str:
            async with session.get(URL + path) as response:
                return await response.text()

        await asyncio.gather(*[get("slow") for _ in range(4)])
        print(*[await get() for _ in range(8)])


if sys.argv[1] == "aiohttp":
    asyncio.run(in_tasks())
else:
    in_threads(requests.Session() if sys.argv[1] == "requests" else httpx.Client())
PY
cat >client.js <<'JS'
const http = require("http"), { request } = require("undici");
const agent = new http.Agent({ keepAlive: true }), url = "http://127.0.0.1:8000/";
const get = process.argv[2] === "undici"
  ? async path => (await request(url + path)).body.text()
  : path => new Promise(done => http.get(url + path, { agent }, answer => {
      let text = "";
      answer.on("data", part => text += part).on("end", () => done(text));
    }));
(async () => {
  await Promise.all([1, 2, 3, 4].map(() => get("slow")));
  const used = [];
  for (let i = 0; i < 8; i++) { used.push(await get("")); await new Promise(done => setTimeout(done, 20)); }
  console.log(used.join(" "));
  process.exit();
})();
JS
alone python3 origin.py >seen

expect <<'SEEN'
requests 4 4 4 4 4 4 4 4
http 4 4 4 4 4 4 4 4
httpx 1 1 1 1 1 1 1 1
undici 1 1 1 1 1 1 1 1
aiohttp 1 2 3 4 1 2 3 4
SEEN
