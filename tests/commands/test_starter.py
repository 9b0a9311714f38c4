"""`twlab new`: what it writes runs as it is, and what it cannot write it says."""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from twlab.catalogue import find_scenario
from twlab.commands import scenario_template
from twlab.commands.console import absolute_topology, find
from twlab.errors import CapabilityError, UsageError
from twlab.network import load_topology


def twlab(*words, cwd, status=0):
    finished = subprocess.run(
        [sys.executable, "-m", "twlab", *words], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert finished.returncode == status, finished.stderr
    return finished


@pytest.mark.guest
def test_what_it_writes_is_supported_as_it_is(tmp_path):
    """On each of the topologies, as the new user would do it: two commands."""
    for name in ("pair", "proxy", "nat", "campus", "vip"):
        said = twlab("new", f"my-{name}", "--topology", name, cwd=tmp_path).stdout
        assert said.startswith(f"my-{name}.py\n")
        assert f"twlab run my-{name}.py" in said
    files = sorted(path.name for path in tmp_path.iterdir())
    results = json.loads(twlab("run", *files, "--json", "--no-report", "--engine", "guest", cwd=tmp_path).stdout)
    assert [(result["scenario"], result["verdict"]) for result in results] == [
        (name.removesuffix(".py"), "SUPPORTED") for name in files
    ]


def test_it_is_written_in_the_project_s_own_style(tmp_path):
    """What students start from would pass the checks that the project's own scenarios pass."""
    path = scenario_template.write(f"{tmp_path}/late-reset", "nat,clients=2")
    subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", path],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--config", ROOT / "pyproject.toml", path],
        check=True,
        capture_output=True,
    )
    assert find_scenario(str(path)).topology == "nat,clients=2"


def test_a_topology_file_is_found_from_anywhere(tmp_path, monkeypatch):
    """In a folder whose name has all that a string, a format or a source could take for its own."""
    folder = tmp_path / 'it\'s "{a}": [b]'
    folder.mkdir()
    (folder / "net.py").write_text((ROOT / "topologies" / "pair.py").read_text())
    monkeypatch.chdir(folder)
    path = scenario_template.write("mine", "net.py,mtu=1400").resolve()
    monkeypatch.chdir(tmp_path)
    found = find_scenario(f"{path}:mine")
    assert found is not None
    assert found.topology_in() == f"{folder}/net.py,mtu=1400"
    assert load_topology(found.topology_in()).nodes()
    assert find(str(path))[0] == str(path)
    assert absolute_topology(f"{folder.name}/net.py:pair") == f"{folder}/net.py:pair"


@pytest.mark.parametrize(
    "topology", ["pair", "proxy", "nat", "nat,clients=2,servers=2", "campus", "vip", "vip,servers=5"]
)
def test_what_it_writes_crosses_the_wire(tmp_path, topology):
    """Between the two ends that it names there is a wire, whichever the topology."""
    text = scenario_template.write(f"{tmp_path}/mine", topology).read_text()
    client, server = re.search(r'opener, server = lab\["(\w+)"\], lab\["(\w+)"\]', text).groups()
    made = load_topology(topology)
    wires = [name for name in made.nodes() if made.nodeInfo(name)["cls"].role == "wire"]
    seen = [client]
    for here in seen:  # all that the client reaches without crossing a wire
        seen += [name for name in made.g.edge[here] if name not in seen and name not in wires]
    assert server not in seen


def test_a_file_is_never_written_over(tmp_path):
    """The second time it says so, and the file is as it was."""
    path = scenario_template.write(str(tmp_path / "mine.py"), "pair")
    path.write_text("a student's work")
    with pytest.raises(UsageError) as caught:
        scenario_template.write(str(tmp_path / "mine"), "pair")
    assert caught.value.slug == "file-exists"
    assert path.read_text() == "a student's work"


@pytest.mark.parametrize(
    "name", ["", "Late", "late reset", "1st", "-x", "class", "a--b", "late.reset", "späte", "random", "twlab"]
)
def test_a_bad_name_is_told(tmp_path, name):
    """What could be no function's name, or no scenario's, is refused before anything is written."""
    with pytest.raises(UsageError) as caught:
        scenario_template.write(f"{tmp_path}/{name}", "pair")
    assert caught.value.slug == "bad-name"
    assert list(tmp_path.iterdir()) == []


def test_a_topology_that_cannot_be_is_told(tmp_path):
    """No such topology; and one in which no node could connect to another."""
    with pytest.raises(UsageError, match="no-such-topology"):
        scenario_template.write(f"{tmp_path}/mine", "star")
    lonely = tmp_path / "lonely.py"
    lonely.write_text(
        "from twlab.network import Endpoint, Topology, WireNode\n"
        "class Lonely(Topology):\n"
        "    def build(self):\n"
        "        self.addHost('client', cls=Endpoint)\n"
        "        self.addHost('wire', cls=WireNode)\n"
        "        self.join('client', 'wire', '10.0.1.0/24')\n"
        "topos = {'lonely': Lonely}\n"
    )
    with pytest.raises(UsageError, match="no two endpoints"):
        scenario_template.write(f"{tmp_path}/mine", str(lonely))


def test_a_folder_that_is_not_there_is_told(tmp_path):
    """With the reason, and what to do."""
    with pytest.raises(CapabilityError) as caught:
        scenario_template.write(f"{tmp_path}/missing/mine", "pair")
    assert caught.value.slug == "cannot-write"
