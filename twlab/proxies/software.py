"""A proxy's software: how it is configured and started, and its origin."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from twlab.errors import UsageError

PORT = 8080  # where clients find the proxy


@dataclass(frozen=True)
class Upstream:
    """The addresses of the origin, and of the proxy towards it.

    Attributes:
        origins: (IP address, port) of each. Ways that are not about several take the first one.
        sources: the proxy's IPv4 addresses towards it, the main one first.
        ports: first and last port of a range of the proxy's own, for ways that take one. Outside
            the kernel's range.
    """

    origins: Sequence[tuple[str, int]] = (("10.2.1.1", 80), ("10.2.1.1", 81))
    sources: Sequence[str] = ("10.3.2.1",)
    ports: tuple[int, int] = (20_000, 20_059)

    def origins_for(self, way: str) -> Sequence[tuple[str, int]]:
        """List the origins of `way`.

        All for a way called ``origins`` or ``origins-...``, else the first.
        """
        return self.origins if way.startswith("origins") else self.origins[:1]


@dataclass(frozen=True)
class Software:
    """A proxy's software.

    Attributes:
        name: its program, and Debian's package unless `package` says how to install it.
        file: name of its configuration.
        arguments: of the program, to run in the foreground; ``{folder}`` stands for the folder with
            its files.
        check: arguments that only check the configuration.
        ways: way to its description, in a few words. The first one churns: every request has
            another connection to the origin.
        write: (way, upstream) to the configuration; its ``{folder}`` stands for the same.
        log: file in which it complains that it cannot connect.
        complaint: such a complaint. Its group is what is the same each time.
        package: the command that installs it.
        more: way to arguments beside `arguments`.
    """

    name: str
    file: str
    arguments: tuple[str, ...]
    check: tuple[str, ...]
    ways: Mapping[str, str]
    write: Callable[[str, Upstream], str]
    log: str
    complaint: re.Pattern[str]
    package: str = ""
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def configuration(self, way: str, upstream: Upstream) -> str:
        """Write the configuration for one of the ways.

        Raises UsageError: it has no such way (``no-such-way``).
        """
        if way not in self.ways:
            raise UsageError(
                f"{self.name} has no way called {way!r}", f"its ways are: {', '.join(self.ways)}", "no-such-way"
            )
        return f"# {self.name}: {self.ways[way]}.\n" + self.write(way, upstream)


def bracketed(address: str) -> str:
    """Return an IP address as it stands before a port: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address
