"""The scenario file that `twlab new` writes.

It runs as it is, and says at each place what to change.
"""

from __future__ import annotations

import json
import keyword
import re
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from twlab.commands.console import absolute_topology
from twlab.errors import CapabilityError, UsageError
from twlab.results.files import replacing

if TYPE_CHECKING:
    from twlab.network import Topology

_TAKEN = (
    "twlab",
    "topologies",
    "mininet",
    "scapy",
    "pyroute2",
    "netfilterqueue",
    "pytest",
    "hypothesis",
)  # what twlab and its tests import
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_TEXT = '''\
"""{title}: a scenario of your own. It runs as it is; the numbers say what to change, and in which order.

To look at it, and to run it:

    twlab explain {file}
    twlab run {file}

To run one arm of it with another setting, add: --arm treatment --set time_wait_s=0.5

"twlab list" names the scenarios that come with twlab; their files show how a segment is held, copied, dropped or made.
"""

from twlab import Arm, Lab, Observation, Settings, scenario

PORT = 40_000  # the connecting side's; with the server's port 80 and the two addresses it makes the four-tuple


# 1. Predict, before anything runs: what each arm is set to, and what it will show.
# The control is TIME_WAIT as the RFC has it.
@scenario(
    topology={topology},
    base=Settings(timestamps=0),  # what all arms share; "twlab explain" says what each setting is
    control=Arm(Settings(time_wait_s=60), expect=Observation(reopened=False, refused_by="EADDRNOTAVAIL")),
    treatment=Arm(Settings(time_wait_s=1), expect=Observation(reopened=True, refused_by="")),
    remedies={{
        "timestamps": Arm(Settings(time_wait_s=60, timestamps=1), expect=Observation(reopened=True, refused_by="")),
    }},
    reads="RFC 9293 section 3.6.1",  # 4. where the claim comes from
)
def {function}(lab: Lab) -> Observation:
    """A four-tuple in TIME_WAIT cannot be opened again; two seconds later it can, where TIME_WAIT is cut to one.

    2. The paragraph above is the claim: one sentence that can turn out false. Here you say why it should be so.
    """
    opener, server = lab["{client}"], lab["{server}"]
    listener = server.listen(80)

    # 3. The steps. Each begins with what happens in it, in words; the words appear in the transcript and in the ladder.
    lab.step("A connection is opened and closed; its opener closes first, and so has the TIME_WAIT.")
    first = opener.connect(server, 80, source_port=PORT)
    lab.close(first, listener.accept())

    lab.step("Two seconds later the same four-tuple is opened again.")
    lab.sleep(2)
    attempt = opener.try_connect(server, 80, source_port=PORT)

    # What was seen, under the names that the predictions use. A fact that no arm predicts is recorded all the same.
    return Observation(
        reopened=bool(attempt),
        refused_by=attempt.error,
        time_wait_sockets=len(lab.time_wait("{client}")),
    )
'''


def write(name: str, topology: str) -> Path:
    """Write ``NAME.py``, a scenario on `topology`, and return its path.

    An existing file stays as it is.

    Args:
        name: small letters and digits, joined by ``-`` or ``_``; a folder may stand before it, and
            ``.py`` behind it.
        topology: name and options, e.g. ``nat,clients=2``, or the path of a file.

    Raises:
        UsageError: no name for a scenario (``bad-name``), the file exists (``file-exists``), or the
            topology cannot be made or has no two endpoints that reach each other
            (``no-such-topology``, ``broken-topology-file``, ``bad-topology-option``).
        CapabilityError: the file cannot be written (``cannot-write``).
    """
    path = Path(name).with_suffix(".py") if name.endswith(".py") else Path(f"{name}.py")
    function = path.stem.replace("-", "_")
    if not _NAME.fullmatch(path.stem) or keyword.iskeyword(function):
        remedy = "small letters and digits, joined by - or _, and no word of Python's, e.g. late-reset"
        raise UsageError(f"{path.stem!r} cannot be the name of a scenario", remedy, "bad-name")
    if path.stem in sys.stdlib_module_names or path.stem in _TAKEN:
        remedy = f"beside a file {path.name}, Python would take it for its own, e.g. call yours my-{path.stem}"
        raise UsageError(f"{path.stem!r} is the name of a Python module", remedy, "bad-name")
    from twlab.network import load_topology

    client, server = _ends(topology, load_topology(topology))
    # As a scenario writes it: with doubled braces, since an argument of the steps stands in single
    # ones. A file of the user's is found from anywhere.
    written = json.dumps(absolute_topology(topology).replace("{", "{{").replace("}", "}}"), ensure_ascii=False)
    title = function.replace("_", " ").capitalize()
    text = _TEXT.format(title=title, file=path, function=function, topology=written, client=client, server=server)
    if path.is_symlink() or path.exists():
        raise UsageError(f"{path} is there already", "choose another name, or remove it first", "file-exists")
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise CapabilityError(
            f"{path} cannot be written: {error.strerror}", "choose a folder that you may write to", "cannot-write"
        ) from error
    return path


def _ends(text: str, topology: Topology) -> tuple[str, str]:
    """Return the endpoint that connects, and the server it connects to.

    It is the endpoint nearest to the server. Only routers are between them, one of them a wire.
    """
    kinds = {name: topology.nodeInfo(name)["cls"] for name in topology.nodes()}
    endpoints = [name for name, kind in kinds.items() if kind.role == "endpoint"]
    for server in sorted(endpoints, key=lambda name: not name.startswith("s")):
        ahead = deque([(server, False)])
        seen = {(server, False)}
        while ahead:
            here, crossed = ahead.popleft()
            for name in topology.g.edge.get(here, {}):
                way = (name, crossed or kinds[name].role == "wire")
                if way in seen or name == server:
                    continue
                seen.add(way)
                if kinds[name].role == "endpoint" and way[1]:
                    return name, server
                if kinds[name].role != "endpoint" and kinds[name].forwards:
                    ahead.append(way)
    message = f"no two endpoints of {text} reach each other across a wire"
    raise UsageError(message, "see topologies/pair.py for how one is made", "broken-topology-file")
