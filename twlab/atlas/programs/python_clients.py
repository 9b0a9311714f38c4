"""Python's clients: requests, urllib3, httpx, aiohttp, with one session each.

https://requests.readthedocs.io/, https://urllib3.readthedocs.io/ (``source_address``),
https://www.python-httpx.org/ (``local_address``), https://docs.aiohttp.org/ (``local_addr``).
"""

from collections.abc import Callable

from twlab.atlas.subject import Place, Subject

_COMMON = '''\
import errno, re, sys
orders, url, source = sys.argv[1:4]
address = (source, 0) if source else None

def words(error):
    """The errno at the end of the chain of causes, or the error's name."""
    found = re.findall(r"\\[Errno (\\d+)\\]", repr(error))
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    number = getattr(error, "errno", None) or (found and int(found[-1]))
    return errno.errorcode.get(number, str(number)) if number else type(error).__name__
'''
_LOOP = """\
for line in open(orders):
    try:
        print(ask(line.strip()), flush=True)
    except Exception as error:
        print(words(error), error, flush=True)
"""
_ASKS = {
    "requests": """\
import requests
from requests.adapters import HTTPAdapter
session = requests.Session()
adapter = HTTPAdapter()
if address:
    adapter.init_poolmanager(10, 10, source_address=address)
session.mount("http://", adapter)
session.trust_env = False
def ask(method):
    return session.request(method, url, data=b"hello\\n" if method == "POST" else None).status_code
""",
    "urllib3": """\
import urllib3
pool = urllib3.PoolManager(retries=False, **({"source_address": address} if address else {}))
def ask(method):
    return pool.request(method, url, body=b"hello\\n" if method == "POST" else None).status
""",
    "httpx": """\
import httpx
client = httpx.Client(trust_env=False, transport=httpx.HTTPTransport(local_address=source or None))
def ask(method):
    return client.request(method, url, content=b"hello\\n" if method == "POST" else None).status_code
""",
}
_AIOHTTP = """\
import aiohttp, asyncio, os
async def main():
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(orders, os.O_RDONLY | os.O_NONBLOCK))
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=address)) as session:
        async for line in reader:
            method = line.decode().strip()
            try:
                async with session.request(method, url, data=b"hello\\n" if method == "POST" else None) as answer:
                    await answer.read()
                    print(answer.status, flush=True)
            except Exception as error:
                print(words(error), error, flush=True)
asyncio.run(main())
"""


def _files(text: str) -> Callable[[Place], dict[str, str]]:
    return lambda _: {"client.py": _COMMON + text}


SUBJECTS = tuple(
    Subject(
        name=name,
        program="python",
        package=f"pip install {name}",
        arguments=lambda place: ("{folder}/client.py", place.orders, place.url, place.source),
        files=_files(text),
        runs="orders",
        source=source,
        needs=(name,),
        version=(
            "-c",
            f"import importlib.metadata as m; print(m.version({name!r}))",
        ),
    )
    for name, text, source in (
        ("requests", _ASKS["requests"] + _LOOP, "HTTPAdapter ... source_address"),
        ("urllib3", _ASKS["urllib3"] + _LOOP, "PoolManager(source_address=)"),
        ("httpx", _ASKS["httpx"] + _LOOP, "HTTPTransport(local_address=)"),
        ("aiohttp", _AIOHTTP, "TCPConnector(local_addr=)"),
    )
)
