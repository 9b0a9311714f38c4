"""Node's http-proxy as it comes, and with an agent that keeps connections.

https://github.com/http-party/node-http-proxy: ``localAddress``, ``agent``.
"""

from collections.abc import Callable

from twlab.atlas.subject import PORT, Place, Subject

_MODULES = "/usr/share/nodejs"  # of Debian
_TEXT = """\
process.env.NODE_PATH = '%s';
require('module').Module._initPaths();
const [target, source] = process.argv.slice(2);
const options = {target, ...(source ? {localAddress: source} : {})};
if (%s) options.agent = new (require('http').Agent)({keepAlive: true, ...(source ? {localAddress: source} : {})});
const proxy = require('http-proxy').createProxyServer(options);
proxy.on('error', (error, request, answer) => {
  console.log(error.message);
  answer.writeHead(502, {'Content-Length': 0});
  answer.end();
});
require('http').createServer((request, answer) => proxy.web(request, answer)).listen(%d, '0.0.0.0');
"""


def _files(keeps: str) -> Callable[[Place], dict[str, str]]:
    return lambda _: {"proxy.js": _TEXT % (_MODULES, keeps, PORT)}


SUBJECTS = tuple(
    Subject(
        name=name,
        program="node",
        package="node-http-proxy",
        arguments=lambda place: ("{folder}/proxy.js", f"http://{place.address}", place.source),
        files=_files(keeps),
        source="localAddress",
        needs=(f"{_MODULES}/http-proxy",),
        version=("-p", f"require('{_MODULES}/http-proxy/package.json').version"),
    )
    for name, keeps in (("http-proxy", "false"), ("http-proxy-keep-alive", "true"))
)
