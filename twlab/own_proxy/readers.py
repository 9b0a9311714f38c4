"""Finds out which program a configuration is for, and reads it."""

from __future__ import annotations

from pathlib import Path

from twlab.errors import UsageError
from twlab.own_proxy.caddy import CADDY
from twlab.own_proxy.envoy import ENVOY
from twlab.own_proxy.haproxy import HAPROXY
from twlab.own_proxy.nginx import NGINX
from twlab.own_proxy.reading import Reader, Reading
from twlab.own_proxy.squid import SQUID

READERS = {reader.name: reader for reader in (NGINX, SQUID, ENVOY, CADDY, HAPROXY)}
_WHOLE = ("http", "stream", "server")  # an nginx.conf, or what it includes, has one of these blocks
_MOST = 4 << 20  # bytes of a configuration


def reader_for(path: Path, program: str = "") -> tuple[Reader, str]:
    """Return the reader for the file at `path`, and its text.

    Args:
        program: its name, where the user gives it; empty: by the file's name and text.

    Raises:
        UsageError: the file cannot be read (``no-configuration``), or is for no program that is
            known here (``no-proxy-reader``).
    """
    try:
        if path.stat().st_size > _MOST:
            raise UsageError(f"{path} is longer than 4 MiB", "name a configuration file", "no-configuration")
        text = path.read_text(errors="replace")
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise UsageError(
            message, "name a haproxy.cfg, nginx.conf, squid.conf, envoy.yaml or Caddyfile", "no-configuration"
        ) from error
    known = ", ".join(READERS)
    if program:
        if program not in READERS:
            message = f"twlab has no reader for configurations of {program}"
            raise UsageError(message, f"it reads those of: {known}; see docs/guides/your-proxy.md", "no-proxy-reader")
        return READERS[program], text
    for reader in READERS.values():
        if path.name.lower().startswith(reader.name) and reader.recognizes(path.name, text):
            return reader, text
    for reader in READERS.values():
        if reader.recognizes("", text):
            return reader, text
    message = f"{path} is not recognized as a configuration of: {known}"
    raise UsageError(message, f"name the program: --program {' or '.join(READERS)}", "no-proxy-reader")


def read(path: Path, reader: Reader) -> Reading:
    """Read the configuration at `path`.

    Raises:
        UsageError: there is no way through it from a listener to an origin (``no-proxy-route``).
    """
    reading = reader.read(path)
    reading.routes = [route for route in reading.routes if route.origins]
    if not reading.routes:
        lacking = "; ".join(absent.what for absent in reading.absent[:3])
        message = f"{path} has no listener that leads to an origin over TCP" + (f" ({lacking})" if lacking else "")
        remedy = "name the file that has both; included files are read too"
        if reader.name == "nginx" and not any(f"{block} {{" in path.read_text(errors="replace") for block in _WHOLE):
            remedy = "it is a part that an nginx.conf includes: name that one"
        raise UsageError(message, remedy, "no-proxy-route")
    return reading
