"""Loads topologies, and makes them with their options.

From the folder `topologies/`, or from a user's file.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from twlab import paths, user_file
from twlab.errors import UsageError, did_you_mean
from twlab.network.topology import Topology, broken_topology
from twlab.numerals import is_whole

_FOLDER = paths.TOPOLOGIES


def load_topology(text: str) -> Topology:
    """Load a topology by its name or the path of its file, and make it.

    Options follow as Mininet writes them: ``nat,clients=2``, ``my/net.py,mtu=9000``. Of a file with
    several topologies, ``my/net.py:second`` names one.

    Raises:
        UsageError: there is no topology of that name (``no-such-topology``), the file cannot be
            loaded or has no topology (``broken-topology-file``), or the topology has no such option
            (``bad-topology-option``).
    """
    place, *options = text.split(",")
    file, wanted = user_file.split(place)
    if file:
        path = Path(file)
    elif place in topology_names():
        path, wanted = _FOLDER / f"{place.replace('-', '_')}.py", place
    else:
        message = f"there is no topology called {place!r}{did_you_mean(place, topology_names())}"
        remedy = f"the topologies are: {', '.join(topology_names())}; or give the path of a .py file"
        raise UsageError(message, remedy, "no-such-topology")
    known = _load_file(path)
    if wanted and wanted not in known:
        near = did_you_mean(wanted, known)
        raise UsageError(
            f"{path} has no topology called {wanted!r}{near}", f"it holds: {', '.join(known)}", "no-such-topology"
        )
    return _make(known[wanted or next(iter(known))], place, options)


def topology_names() -> list[str]:
    """List the topologies that come with twlab."""
    return sorted(path.stem.replace("_", "-") for path in _FOLDER.glob("[!_]*.py"))


def _load_file(path: Path) -> dict[str, type[Topology]]:
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}",
            f"the topologies that come with twlab are: {', '.join(topology_names())}",
            "no-such-topology",
        )
    search = list(sys.path)  # the file may add to it, for the sake of mn
    try:
        module = user_file.load(path, f"topology_{path.stem}", "broken-topology-file")
    finally:
        sys.path[:] = search
    known = getattr(module, "topos", None)
    if not isinstance(known, dict) or not known:
        raise broken_topology(f"{path} holds no topology", "end the file with: topos = {'mine': Mine}")
    return known


def _make(kind: type[Topology], place: str, options: list[str]) -> Topology:
    takes = {
        name: p.default for name, p in inspect.signature(kind.build).parameters.items() if p.default is not p.empty
    }
    given = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign or name not in takes:
            remedy = "its options and their defaults are: " + (
                ", ".join(f"{name}={default}" for name, default in takes.items()) or "none"
            )
            raise UsageError(f"{place} does not take the option {option!r}", remedy, "bad-topology-option")
        given[name] = int(value) if is_whole(value) else value
    try:
        made = kind(**given)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a user's build may raise anything
        raise broken_topology(
            f"{place} cannot be built: {type(error).__name__}: {error}", "run the file with python3 to see where"
        ) from error
    if fault := _fault(made):
        raise broken_topology(f"the lab cannot build {place}: {fault}", "see topologies/pair.py for how one is made")
    return made


def _fault(topology: object) -> str:
    """Return why the lab cannot build `topology`; empty if it can."""
    if not isinstance(topology, Topology):
        return "it is not made from twlab.network.Topology"
    if not topology.g.node:
        return "it has no nodes"
    for name, options in topology.g.node.items():
        if not topology.g.edge.get(name):
            return f"its node {name} has no link"
        try:
            inspect.signature(options["cls"]).bind(
                name, **{key: value for key, value in options.items() if key != "cls"}
            )
        except TypeError as error:
            return f"its node {name}, a {options['cls'].__name__}, has {error}"
    return ""
