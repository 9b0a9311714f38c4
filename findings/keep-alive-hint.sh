#!/usr/bin/env bash
# One response header, "Keep-Alive: timeout=...", read in two ways by the two HTTP clients of one Node.
#
# Guess: both clients reuse a connection for as long as the header allows, and no longer.
# Happened: http.Agent({keepAlive: true}) of Node 20.20.2 never reuses a connection with timeout=1, and with
# timeout=2 reuses it after 3 s: the hint only shortens a timeout of the agent's own, which is unset here.
# If another word stands before it ("max=100, timeout=1") it is not seen, and the connection is kept.
# undici takes 2 s off the hint (its page Client.md says so), wherever it stands: timeout=2 is no reuse at all.
# Matters to: users of Node behind origins with short keep-alive: "socket hang up" with one client, a
# handshake for each request with the other. Give the agent a timeout of its own.
# Versions: Node 20.20.2, undici 7.30.2.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
npm undici@7.30.2
[ "$(node --version)" = v20.20.2 ] || { echo "this needs Node 20.20.2" >&2; exit 3; }

cat >hint.js <<'JS'
const http = require("http"), { request } = require("undici");
const connections = new WeakMap();
let count = 0;
// Not Node's own server: it would send a hint of its own.
const server = require("net").createServer(socket => {
  connections.set(socket, ++count);
  socket.on("error", () => {}).on("data", data => {
    const hint = /hint: (.*)\r/i.exec(data)[1], text = String(connections.get(socket));
    socket.write(`HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: ${hint}\r\n` +
                 `Content-Length: ${text.length}\r\n\r\n${text}`);
  });
});
const url = "http://127.0.0.1:8000/", sleep = ms => new Promise(done => setTimeout(done, ms));
const agent = new http.Agent({ keepAlive: true });
const clients = {
  "http.Agent": headers => new Promise((done, no) => http.get(url, { agent, headers }, answer => {
    let text = "";
    answer.on("data", part => text += part).on("end", () => done(text));
  }).on("error", no)),
  undici: async headers => (await request(url, { headers })).body.text(),
};
const say = (a, b) => a === b ? "reused" : "new";
server.listen(8000, "127.0.0.1", async () => {
  for (const hint of ["timeout=1", "timeout=2", "timeout=60", "max=100, timeout=1"])
    for (const [name, get] of Object.entries(clients)) {
      const first = await get({ hint });
      await sleep(100);
      const soon = await get({ hint });
      await sleep(3000);
      const late = await get({ hint });
      console.log(`${hint} ${name}: after 0.1 s ${say(first, soon)}, after 3 s ${say(soon, late)}`);
    }
  process.exit();
});
JS
alone node hint.js >seen

expect <<'SEEN'
timeout=1 http.Agent: after 0.1 s new, after 3 s new
timeout=1 undici: after 0.1 s new, after 3 s new
timeout=2 http.Agent: after 0.1 s reused, after 3 s reused
timeout=2 undici: after 0.1 s new, after 3 s new
timeout=60 http.Agent: after 0.1 s reused, after 3 s reused
timeout=60 undici: after 0.1 s reused, after 3 s reused
max=100, timeout=1 http.Agent: after 0.1 s reused, after 3 s reused
max=100, timeout=1 undici: after 0.1 s new, after 3 s new
SEEN
