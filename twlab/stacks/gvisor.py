"""gVisor's netstack on a node.

The distribution's packages are in a short Go program of ours, `gvisor.go`. Go takes a quarter of a
minute for it, so that it is compiled when twlab is set up (`main`), and kept beside the Python
environment, where the lab kernel's guest finds it, too.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from twlab.errors import CapabilityError
from twlab.stacks.compiling import compile_once
from twlab.stacks.far_end import FarEnd

if TYPE_CHECKING:
    from twlab.lab.lab import Lab

TIME_WAIT_S = 60  # DefaultTCPTimeWaitTimeout (pkg/tcpip/transport/tcp/protocol.go)
SOURCE = Path(__file__).with_name("gvisor.go")
_PACKAGES = "/usr/share/gocode"  # where Debian's packages of Go sources are


class GvisorStack(FarEnd):
    """gVisor's netstack, running on a node until the arm ends or `stop`.

    Args:
        name: of the node, which is a `UserStack`.

    Raises:
        CapabilityError: the program has not been compiled (``no-gvisor``).
        ScenarioError: the node has another stack (``no-such-stack``).
    """

    stack, title = "gvisor", "gVisor"

    def __init__(self, lab: Lab, name: str):
        if not (program := kept()).exists():
            raise _cannot("gVisor's program has not been compiled")
        next_hop = lab.network[name].interfaces[0].peer
        super().__init__(lab, name, program, [next_hop.all4[0], next_hop.all6[0]])


def kept() -> Path:
    """Return the path of the compiled program, whether or not it is there."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    return Path(sys.executable).parents[1] / "libexec" / f"twlab-gvisor-{digest}"


def compiled() -> Path:
    """Return the compiled program, made of gvisor.go unless it is there.

    Raises:
        CapabilityError: there is no Go, or not the packages, or no place for it (``no-gvisor``).
    """
    program = kept()
    with tempfile.TemporaryDirectory() as folder:
        own = {"GO111MODULE": "off", "GOPATH": _PACKAGES, "GOCACHE": folder, "CGO_ENABLED": "0", "GOFLAGS": ""}
        fault = compile_once(program, ["go", "build", "-trimpath", "-o", "{}", str(SOURCE)], "Go", own)
    if fault:
        raise _cannot(f"gVisor cannot be compiled: {fault}")
    return program


def _cannot(message: str) -> CapabilityError:
    remedy = "setup/install.sh, which installs golang-go and golang-gvisor-gvisor-dev, and compiles it"
    return CapabilityError(message, remedy, "no-gvisor")


def main() -> None:
    """Compile it, and print its path; exit with a message where that cannot be."""
    try:
        print(compiled())
    except CapabilityError as error:
        sys.exit(f"{error}")
