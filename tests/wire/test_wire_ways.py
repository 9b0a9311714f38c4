"""Every verb of the wire, in both directions in one arm, in every topology, over IPv4 and IPv6; and
what goes astray is an error, never a result.
"""

from pathlib import Path

import pytest
from wired import wired

from twlab.errors import EngineError
from twlab.network import load_topology, topology_names
from twlab.segment import Flow, match
from twlab.wire.sender import LinkSender, PacketSender

pytestmark = pytest.mark.host

# All but ipvs, whose balancer takes no orders in a sandbox on this machine.
TOPOLOGIES = [*(name for name in topology_names() if name != "ipvs"), "nat,clients=2,servers=2", "campus,servers=2"]
PORT = 4000
LATE_S = 0.06


def wires_of(topology):
    made = load_topology(topology)
    return [name for name in made.nodes() if made.nodeInfo(name)["cls"].role == "wire"]


class Side:
    """One neighbour of the wire, as a crafted endpoint, and what has arrived there so far."""

    def __init__(self, lab, interface, family):
        self.lab, self.interface = lab, interface
        self.address = (interface.all6 if family == 6 else interface.all4)[0]
        self.end = lab.wire.endpoint(interface.node, PORT, address=self.address)

    def made(self, other, number):
        flow = Flow(self.address, PORT, other.address, PORT)
        return self.lab.wire.craft(flow=flow, flags="PA", seq=number * 10, payload=b"0123456789")

    def put(self, other, *numbers):
        for number in numbers:
            self.end.put(self.made(other, number))
            self.lab.loop.sleep(0)

    def arrived(self):
        """Numbers of the segments that have arrived since it was last asked."""
        self.lab.loop.sleep(0.01)
        numbers = [segment.seq // 10 for segment in self.end.seen]
        self.end.seen.clear()
        return numbers


def verbs(lab, source, target):
    """Each verb on its way from `source` to `target`: what arrives at once, and what does
    afterwards.
    """
    wire, which = lab.wire, match(source=source.address, destination=target.address, payload=True)
    found = {}
    held = wire.hold(which)
    source.put(target, 1)
    early = target.arrived()
    held.release()
    found["hold"] = [early, target.arrived()]
    for verb, number in (("delay", 2), ("duplicate", 3)):
        getattr(wire, verb)(which, LATE_S, 1)
        source.put(target, number)
        put_s = lab.loop.now_s
        lab.loop.sleep(LATE_S)
        lab.loop.sleep(0.01)  # a busy machine may be late, but never early
        late = [segment.at_s - put_s > LATE_S / 2 for segment in target.end.seen]
        found[verb] = [late, target.arrived()]
    wire.reorder(which)
    source.put(target, 4, 5)
    found["reorder"] = [target.arrived(), []]
    copied = wire.copy(which)
    source.put(target, 6)
    early = target.arrived()
    copied.release()
    found["copy"] = [early, target.arrived()]
    wire.inject(source.made(target, 7))
    found["inject"] = [target.arrived(), []]
    return found


RIGHT = {
    "hold": [[], [1]],
    "delay": [[True], [2]],
    "duplicate": [[False, True], [3, 3]],
    "reorder": [[5, 4], []],
    "copy": [[6], [6]],
    "inject": [[7], []],
}


def every_way(topology, wire, path):
    """Every verb between each two neighbours of the wire; the ways on which it did not do what it
    should.
    """
    wrong = []
    with wired(topology, capture=Path(path), nodes=(wire,), wire=wire) as lab:
        for family in (4, 6):
            sides = [Side(lab, interface.peer, family) for interface in lab.network[wire].interfaces]
            for source in sides:
                for target in sides:
                    if source is target:
                        continue
                    found = verbs(lab, source, target)
                    astray = [side.interface.name for side in sides if side is not target and side.arrived()]
                    if found != RIGHT or astray:
                        wrong.append([source.interface.name, target.interface.name, family, found, astray])
            for side in sides:
                side.end.close()
        capture = lab.capture
        lab.wire.close()
    return {"wrong": wrong, "fault": str(capture.fault or lab.wire.fault or "")}


@pytest.mark.parametrize(
    ("topology", "wire"), [(topology, wire) for topology in TOPOLOGIES for wire in wires_of(topology)]
)
def test_every_verb_goes_both_ways(in_sandbox, tmp_path, topology, wire):
    """What the wire releases, repeats or injects arrives where it was addressed to, whichever way
    the wire has sent before.
    """
    assert in_sandbox(every_way, topology, wire, str(tmp_path / "ways.pcapng"), timeout_s=300) == {
        "wrong": [],
        "fault": "",
    }


def astray(path, how):
    """Something that the wire sends does not get to the link it is meant for; what becomes of that."""
    with wired(capture=Path(path)) as lab:
        lab.endpoints()
        to, send = PacketSender.to, LinkSender.send
        first = lab.crafted(1)
        lab.wire.inject(first)
        if how == "wrong side":
            PacketSender.to = lambda sender, _destination: to(sender, first.destination)
        else:
            LinkSender.send = lambda _link, _packet: None
        back = lab.wire.craft(like=first, flow=first.flow.reversed())
        try:
            lab.wire.inject(back)
            return "passed"
        except EngineError as error:
            return error.slug
        finally:
            PacketSender.to, LinkSender.send = to, send


@pytest.mark.parametrize("how", ["wrong side", "not at all"])
def test_what_goes_astray_is_an_error(in_sandbox, tmp_path, how):
    """A way that the kernel would not take, and a packet that the capture does not find on its
    link: the lab's error.
    """
    assert in_sandbox(astray, str(tmp_path / "astray.pcapng"), how) == "sent-not-seen"
