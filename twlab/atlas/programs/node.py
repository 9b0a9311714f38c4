"""Node: its http module, with and without kept connections; its fetch (undici).

https://nodejs.org/api/http.html: ``localAddress``, ``keepAlive``.
"""

from collections.abc import Callable

from twlab.atlas.subject import Place, Subject

_COMMON = """\
const [orders, url, source] = process.argv.slice(2);
const lines = require('readline').createInterface({input: require('fs').createReadStream(orders)});
const say = (text) => process.stdout.write(text + '\\n');
const last = (error) => error.cause ? last(error.cause) : error;
const words = (error) => (last(error).code || last(error).name) + ' ' + last(error).message;
lines.on('line', (method) => ask(method).then(say, (error) => say(words(error))));
"""
_HTTP = """\
const http = require('http');
const agent = new http.Agent({keepAlive: %s});
function ask(method) {
  return new Promise((resolve, reject) => {
    const options = {method, agent, ...(source ? {localAddress: source} : {})};
    const request = http.request(url, options, (answer) => {
      answer.resume(); answer.on('end', () => resolve(String(answer.statusCode)));
    });
    request.on('error', reject);
    request.end(method === 'POST' ? 'hello\\n' : undefined);
  });
}
"""
_FETCH = """\
async function ask(method) {
  const answer = await fetch(url, {method, ...(method === 'POST' ? {body: 'hello\\n'} : {})});
  await answer.text();
  return String(answer.status);
}
"""


def _files(text: str) -> Callable[[Place], dict[str, str]]:
    return lambda _: {"client.js": _COMMON + text}


SUBJECTS = tuple(
    Subject(
        name=name,
        program="node",
        package="nodejs",
        arguments=lambda place: ("{folder}/client.js", place.orders, place.url, place.source),
        files=_files(text),
        runs="orders",
        source=source,
    )
    for name, text, source in (
        ("node-http", _HTTP % "true", "localAddress"),
        ("node-http-close", _HTTP % "false", "localAddress"),
        ("node-fetch", _FETCH, ""),
    )
)
