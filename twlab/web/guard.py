"""Stands before every page: limits, cookies, tokens against forged forms, headers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twlab import loop

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
MOST_BODY = 16 << 10  # bytes of a form
# ... and of those that carry a text. The 28,232 sockets of a full range of ports, as `ss` lists
# them, have 3.9 MB in a form; with long IPv6 addresses 6.3 MB.
LONG_FORMS = {"/proxy/diagnose": 8 << 20}
_MOST_LONG = 8  # of these at once
_MOST_FIELDS = 80
_BODY_S, _LONG_BODY_S = 10.0, 30.0  # within which a form has to arrive
_LIFE_S = 12 * 3600  # of a token
_COOKIE = "twlab"
_SECRET = 64  # bytes of the server's
_KNOWN = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{32})")
_MOST_ADDRESSES = 10_000
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Secret:
    """The server's secret, in a file; it signs cookies and tokens."""

    def __init__(self, path: Path):
        if not path.exists() or path.stat().st_size < _SECRET:  # an older one may be half written
            whole = path.with_name(f"{path.name}.new")
            whole.unlink(missing_ok=True)
            whole.touch(mode=0o600)
            whole.write_text(secrets.token_hex(_SECRET // 2))
            whole.rename(path)
        self._key = path.read_bytes()

    def sign(self, *parts: str) -> str:
        """Return 32 hexadecimal digits that only this server can make."""
        return hmac.new(self._key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:32]

    def token(self, visitor: str) -> str:
        """Return a token for the forms of one visitor."""
        made = str(int(loop.wall_s()))
        return f"{made}.{self.sign('form', visitor, made)}"

    def allows(self, token: str, visitor: str) -> bool:
        """Return whether `token` was made for `visitor`, and not too long ago."""
        made, _, signed = token.partition(".")
        if not re.fullmatch(r"\d{1,12}", made, re.ASCII) or not _same(signed, self.sign("form", visitor, made)):
            return False
        return 0 <= loop.wall_s() - int(made) + 1 <= _LIFE_S

    def visitor(self, cookie: str) -> str:
        """Return the visitor whose cookie that is, or ""."""
        known = _KNOWN.fullmatch(cookie)
        return known[1] if known and _same(known[2], self.sign("visitor", known[1])) else ""


class Rate:
    """Lets each of many addresses do so much a second, and as much at once as `burst`."""

    def __init__(self, per_s: float, burst: float):
        self._per_s = per_s
        self._burst = burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, who: str) -> bool:
        """Count one for `who`; return whether that is allowed."""
        now_s = loop.monotonic_s()
        left, at_s = self._left.get(who, (self._burst, now_s))
        left = min(self._burst, left + (now_s - at_s) * self._per_s)
        self._left[who] = (max(0.0, left - 1), now_s)
        self._left.move_to_end(who)
        if len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1


class Guard:
    """The middleware: what passes it has ``visitor``, ``token`` and ``form``.

    A long form is not read here, which would take the server's time: it is ``long_form``, a text as
    the browser sent it, and ``form`` is empty.

    Args:
        app: what it stands before.
        secret: of the server.
        hosts: names by which the server may be asked for; empty: any.
        rate: of all requests of one address.
        posts: of its forms.
    """

    def __init__(self, app: ASGIApp, *, secret: Secret, hosts: Iterable[str], rate: Rate, posts: Rate):
        self._app = app
        self._secret = secret
        self._hosts = frozenset(hosts)
        self._rate = rate
        self._posts = posts
        self._long = 0  # long forms that are being taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        known = self._secret.visitor(_cookie(headers))
        visitor = known or secrets.token_hex(16)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    out[name] = value
                out.setdefault("cache-control", "no-store")
                if not known and not scope["path"].startswith("/static/"):
                    value = f"{visitor}.{self._secret.sign('visitor', visitor)}"
                    out.append("set-cookie", f"{_COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000")
            await send(message)

        scope.setdefault("state", {})
        scope["state"].update(visitor=visitor, token=self._secret.token(visitor), form={})
        refused = self._refused(scope, headers)
        if refused or scope["method"] != "POST":
            await (refused or self._app)(scope, receive, sent)
            return
        long = scope["path"] in LONG_FORMS
        self._long += long
        try:
            refused = await self._form(scope, headers, receive, known)
            await (refused or self._app)(scope, receive, sent)
        finally:
            self._long -= long

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        address = scope["client"][0] if scope["client"] else ""
        host = _host(headers.get("host", ""))
        if self._hosts and host not in self._hosts:
            return _refusal(421, "this server does not answer to that name")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _refusal(405, "only GET and POST are answered here")
        if not self._rate.allows(address) or (scope["method"] == "POST" and not self._posts.allows(address)):
            return _refusal(429, "too many requests from one address; wait a few seconds", {"retry-after": "5"})
        if scope["method"] == "POST" and scope["path"] in LONG_FORMS and self._long >= _MOST_LONG:
            return _refusal(503, "too many texts at once; send yours again in a minute", {"retry-after": "60"})
        return None

    async def _form(self, scope: Scope, headers: Headers, receive: Receive, visitor: str) -> Response | None:
        """Take the form: its fields, each once. Return why it is refused, if it is."""
        long = scope["path"] in LONG_FORMS
        most, within_s = (LONG_FORMS[scope["path"]], _LONG_BODY_S) if long else (MOST_BODY, _BODY_S)
        origin = headers.get("origin", "")
        if origin and (origin == "null" or urlsplit(origin).netloc != headers.get("host")):
            return _refusal(403, "a form of another site")
        if headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            return _refusal(415, "only forms are taken")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 9 or int(length) > most:
            return _refusal(413, f"a form has at most {most} bytes")
        try:
            body = await asyncio.wait_for(_body(receive, most), within_s)
            # The token comes first in every form. Of a long one, that is all that is read.
            text = body.decode()
            read = text.partition("&")[0] if long else text
            form = dict(parse_qsl(read, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
        except TimeoutError:
            return _refusal(408, f"the form did not arrive within {within_s:g} s")
        except ValueError:  # too large, too many fields, or no UTF-8
            return _refusal(413, "the form is too large, or not UTF-8")
        if not visitor or not self._secret.allows(form.pop("token", ""), visitor):
            return _refusal(403, "the form is too old, or not this server's; reload its page and send it again")
        scope["state"].update(form=form, long_form=text)
        return None


async def _body(receive: Receive, most: int) -> bytes:
    """Return the body; raises ValueError: it is larger than a form may be."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ValueError("the visitor has left")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise ValueError("too large")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _cookie(headers: Headers) -> str:
    """Return the value of our cookie, among those of any other program on this host."""
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    return next((value for name, _, value in pairs if name == _COOKIE), "")


def _host(text: str) -> str:
    """Return a host without its port."""
    return text.rpartition("]")[0] + "]" if text.startswith("[") else text.partition(":")[0].lower()


def _refusal(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{why}\n", status, headers={**(headers or {}), "connection": "close"})


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
