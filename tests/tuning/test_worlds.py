"""What arms start from: the pinned world, the kernel's own, and this machine's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from command_lines import parsed
from in_guest import run_in_guest

from twlab.catalogue import find_scenario
from twlab.engines import choose
from twlab.engines.protocol import arms_request
from twlab.errors import UsageError
from twlab.linux import sysctl
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.report.text import show
from twlab.results.result import Result, read_result
from twlab.results.transcript import Transcript
from twlab.run.runner import AGENT, Order, run
from twlab.run.worlds import find_world
from twlab.settings import Settings
from twlab.tuning.apply import Tuning, started_from
from twlab.tuning.baseline import BASELINE, pinned
from twlab.tuning.machine import read_machine
from twlab.tuning.unpinned import UNPINNED, why_unpinned
from twlab.world import PINNED, WORLDS, World

NEEDED = {pin.sysctl: pin.value for pin in BASELINE if pin.needed}


def test_a_world_says_where_each_pinned_sysctl_starts() -> None:
    """Pinned: as the baseline says. The kernel's: left alone, but for what the lab needs. This
    machine's: as read, and left alone where it has none.
    """
    assert started_from(PINNED) == {pin.sysctl: pin.value for pin in BASELINE}
    assert started_from(World("kernel")) == {pin.sysctl: NEEDED.get(pin.sysctl) for pin in BASELINE}
    machine = started_from(World("machine", {"net.ipv4.tcp_tw_reuse": "1"}))
    assert machine == {pin.sysctl: NEEDED.get(pin.sysctl) for pin in BASELINE} | {"net.ipv4.tcp_tw_reuse": "1"}
    assert 0 < len(NEEDED) < 5


@pytest.mark.parametrize(
    ("words", "world", "names"),
    [
        (["run", "stale-data"], "pinned", ["stale-data"]),
        (["run", "--defaults", "stale-data"], "kernel", ["stale-data"]),
        (["run", "stale-data", "--defaults"], "kernel", ["stale-data"]),
        (["run", "--defaults", "machine", "stale-data"], "machine", ["stale-data"]),
        (["run", "--defaults=machine", "stale-data"], "machine", ["stale-data"]),
    ],
)
def test_defaults_may_stand_alone(words: list[str], world: str, names: list[str]) -> None:
    """It means the kernel's then, and does not swallow the name of a scenario."""
    params = parsed(words).params
    assert (params["defaults"], list(params["names"])) == (world, names)


@pytest.mark.parametrize("command", ["sweep stale-segment --defaults", "shell --defaults pair"])
def test_sweep_and_shell_take_it_too(command: str) -> None:
    """The same option, the same meaning."""
    assert parsed(command.split()).params["defaults"] == "kernel"


def test_another_name_is_refused() -> None:
    """With the names that there are."""
    with pytest.raises(UsageError, match="machin is not possible") as refusal:
        find_world("machin")
    assert refusal.value.slug == "no-such-world"
    assert "machine" in refusal.value.remedy


def test_a_request_has_a_world_only_where_it_is_not_pinned() -> None:
    """What travels comes back; and a request of the pinned world is as it was."""
    assert "world" not in arms_request([], seed=1)
    world = World("machine", {"net.ipv4.tcp_sack": "0"}, {"net.ipv4.tcp_mem": "shared"})
    assert World.from_dict(arms_request([], seed=1, world=world)["world"]) == world
    assert World.from_dict({}) == PINNED


def test_the_ground_of_a_result_names_the_world() -> None:
    """In the table, in show and in the report; of the pinned world nothing is said."""
    grounds = {
        world: Result("x", "", "", "pair", "guest", 1, "", kernel="7.3.4-twlab #1", world=world).ground
        for world in WORLDS
    }
    assert grounds == {
        "pinned": "guest engine, Linux 7.3.4-twlab",
        "kernel": "guest engine, Linux 7.3.4-twlab, the kernel's own defaults",
        "machine": "guest engine, Linux 7.3.4-twlab, this machine's sysctls",
    }


def tune(world: World, settings: Settings, again: Settings | None = None) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Of a gateway: what was in force before, what is after, and the notes."""
    with Network(load_topology("nat")) as network:
        loop, node = Loop(), network["nat"]
        with node.inside():
            before = {one: sysctl.read(one) for pin in BASELINE for one in sysctl.expand(pin.sysctl)}
        transcript = Transcript(lambda: loop.now_s)
        with Tuning(node, settings, loop, transcript, world=world) as tuning:
            pass
        if again is not None:
            with Tuning(node, again, loop, transcript, world=world, before=tuning) as tuning:
                pass
        with node.inside():
            after = {one: sysctl.read(one) for pin in BASELINE for one in sysctl.expand(pin.sysctl)}
        assert all(tuning.effective[pin.sysctl] == after[pin.sysctl] for pin in BASELINE if "*" not in pin.sysctl)
        return before, after, [entry.text for entry in transcript.entries]


def kernels_own() -> list[Any]:
    reused = Settings(tw_reuse=1, syn_retries=3)
    return [tune(World("kernel"), Settings()), tune(World("kernel"), reused, Settings(syn_retries=3))]


@pytest.mark.host
def test_in_the_kernels_own_world_nothing_is_set_but_what_was_asked_for(in_sandbox: Any) -> None:
    """All that is pinned elsewhere is as the kernel made it, but for what the lab needs; an arm's
    settings go on top, and one that is taken back leaves what was there before.
    """
    (before, after, _), (first, reset, _) = in_sandbox(kernels_own)
    changed = {name: value for name, value in after.items() if value != before[name]}
    assert changed.keys() <= set(NEEDED)
    assert after["net.ipv4.tcp_tw_reuse"] == before["net.ipv4.tcp_tw_reuse"] != pinned("net.ipv4.tcp_tw_reuse")
    assert reset["net.ipv4.tcp_syn_retries"] == "3"
    assert reset["net.ipv4.tcp_tw_reuse"] == first["net.ipv4.tcp_tw_reuse"]


MACHINE = {
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.tcp_syn_retries": "4",
    "net.ipv4.conf.*.rp_filter": "2",
    "net.ipv4.conf.all.rp_filter": "1",
    "net.ipv4.tcp_congestion_control": "nonesuch",
}


def machines() -> Any:
    return tune(World("machine", MACHINE), Settings(syn_retries=3))


@pytest.mark.host
def test_a_machines_values_are_carried_over(in_sandbox: Any) -> None:
    """Those of interfaces, too, ``all`` apart; what an arm asks for goes before; what the lab's
    kernel does not take is noted, and stays as it is.
    """
    before, after, notes = in_sandbox(machines)
    assert after["net.ipv4.tcp_tw_reuse"] == "1"
    assert after["net.ipv4.tcp_syn_retries"] == "3"
    assert after["net.ipv4.conf.all.rp_filter"] == "1"
    assert {value for name, value in after.items() if re.fullmatch(r".*conf\.(default|nat-.*)\.rp_filter", name)} == {
        "2"
    }
    assert after["net.ipv4.tcp_congestion_control"] == before["net.ipv4.tcp_congestion_control"]
    assert len([note for note in notes if "nonesuch" in note and "it keeps" in note]) == 1


def read() -> dict[str, Any]:
    sysctl.write("net.ipv4.tcp_tw_reuse", "1")
    sysctl.write("net.ipv4.conf.lo.rp_filter", "1")
    sysctl.write("net.ipv4.conf.default.rp_filter", "2")
    return read_machine().as_dict()


@pytest.mark.host
def test_this_machine_is_read_where_twlab_was_started(in_sandbox: Any) -> None:
    """Its values, the default of interfaces, and why others stay behind; nothing of the lab's own."""
    found = in_sandbox(read)
    assert found["name"] == "machine"
    assert found["values"]["net.ipv4.tcp_tw_reuse"] == "1"
    assert found["values"]["net.ipv4.conf.*.rp_filter"] == "2"
    assert found["left"]["net.ipv4.ip_unprivileged_port_start"] == "the lab needs 0"
    assert not {"net.ipv4.tcp_timewait_len", "net.ipv4.ip_unprivileged_port_start"} & found["values"].keys()


@pytest.mark.guest
def test_a_result_says_which_world_it_was(tmp_path: Path) -> None:
    """The result, what was in force in it, and `twlab show`."""
    order = Order([("assassination", find_scenario("assassination"))], ["control"], out=tmp_path, world="kernel")
    (finished,) = run(order, choose("guest", agent=AGENT))
    result = read_result(finished.folder)
    assert (result.world, result.not_carried) == ("kernel", {})
    assert result.command.endswith("--defaults kernel --arm control")
    assert result.arms["control"].effective["client"]["net.ipv4.tcp_tw_reuse"] == "2"
    assert result.arms["control"].ok
    told = list(show.lines(finished.folder, [], unfold=False, width=100, colour=False))
    assert told[2] == f"{result.ground}"
    assert "the kernel's own defaults" in told[2]


def net_sysctls() -> list[str]:
    """The names of all sysctls of a NAT gateway's network, ``*`` for each interface."""
    with Network(load_topology("nat")) as network, network["nat"].inside():
        names = [".".join(path.parts[3:]) for path in Path("/proc/sys/net").rglob("*") if path.is_file()]
    return sorted({re.sub(r"^(net\.ipv[46]\.conf)\.[^.]+\.", r"\1.*.", name) for name in names})


@pytest.mark.guest
def test_every_sysctl_of_the_lab_kernel_was_looked_at(tmp_path: Path) -> None:
    """Each is pinned, or listed as looked at and left, with a reason; no line of that list is
    without a sysctl.
    """
    names = run_in_guest(net_sysctls, folder=tmp_path)
    pins = {pin.sysctl for pin in BASELINE}
    assert len(names) > 300
    new = [name for name in names if name not in pins and why_unpinned(name) is None]
    assert new == [], "pin it in twlab/tuning/baseline.py, or say in unpinned.py why not"
    assert [name for name in names if name in pins and why_unpinned(name)] == [], "both pinned and left"


def test_every_line_of_the_unpinned_says_why() -> None:
    """No name stands twice, and TCP's own are named one by one."""
    assert len({name for name, _ in UNPINNED}) == len(UNPINNED)
    assert all(len(reason) > 5 for _, reason in UNPINNED)
    assert [name for name, _ in UNPINNED if name.startswith("net.ipv4.tcp") and "*" in name] == ["net.ipv4.tcp_plb_*_*"]
