"""The pytest plugin, used as an instructor uses it: in a folder of his own, with tests and
scenarios that are not in the package.
"""

import json
import os
import re
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import ROOT

from twlab.results.result import read_result
from twlab.scenario import Verdict

HEAVY = ["mininet", "pyroute2", "scapy", "netfilterqueue", "typer", "rich", "jinja2", "matplotlib"]

TESTS = '''
import os
import pytest
from twlab import Observation, Settings
from twlab.segment import match


@pytest.fixture
def settings():
    return Settings(timestamps=0)


def test_without_a_lab():
    assert os.uname().nodename != "lab-kernel"


@pytest.mark.arm("full", time_wait_s=60, expect={"reopened": False})
@pytest.mark.arm("short", time_wait_s=1, on={"server": {"rfc1337": True}}, expect={"reopened": True})
@pytest.mark.topology("nat")
def test_reopened(lab, arm, tmp_path):
    """A four-tuple is free once its TIME_WAIT is over."""
    assert "nat" in lab.network.nodes
    assert lab.settings["client"].timestamps == 0
    assert lab.settings["server"].rfc1337 is (True if arm.expect["reopened"] else None)
    client, server = lab["client"], lab["server"]
    listener = server.listen(80)
    lab.step("A connection is opened and closed.")
    lab.close(client.connect(server, 80, source_port=40_000), listener.accept())
    lab.step("Two seconds later its four-tuple is opened again.")
    lab.sleep(2)
    attempt = client.try_connect(server, 80, source_port=40_000)
    (tmp_path / "written").write_text(attempt.error)
    assert Observation(reopened=bool(attempt)) == arm.expect


@pytest.mark.skip(reason="not now")
def test_skipped(lab):
    pass


@pytest.mark.xfail(strict=True)
def test_expected_to_fail(lab):
    assert not lab.wires


def test_two_labs(make_lab):
    assert make_lab("pair")["client"] is not make_lab("proxy")["client"]


class TestFailing:
    @pytest.mark.parametrize("port", [80])
    def test_the_wire_keeps_nothing(self, lab, port):
        """A SYN that the wire takes is never answered."""
        print("said inside")
        lab["server"].listen(port)
        lab.step("The wire takes what the client sends.")
        lab.wire.hold(match(flags="S"), count=None)
        attempt = lab["client"].try_connect(lab["server"], port, timeout_s=0.5)
        assert attempt.error == ""
'''

SCENARIO = '''
from twlab import Arm, Lab, Observation, Settings, scenario


@scenario(
    topology="pair",
    control=Arm(Settings(time_wait_s=60), expect=Observation(count=1)),
    treatment=Arm(Settings(time_wait_s=1), expect=Observation(count=COUNT)),
)
def end_of_time_wait(lab: Lab) -> Observation:
    """TIME_WAIT lasts as long as it is set to."""
    listener = lab["server"].listen(80)
    lab.step("A connection is opened and closed.")
    lab.close(lab["client"].connect(lab["server"], 80), listener.accept())
    lab.sleep(2)
    return Observation(count=len(lab.time_wait("client")))
'''


def run_pytest(folder: Path, *words: str) -> tuple[dict[str, str], str]:
    """Outcomes by test, as pytest's own summary has them, and all it printed. A warning is an error
    in it.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rA",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        "--strict-markers",
        *("-o", "faulthandler_timeout=120"),  # should it hang, it says where
        f"--basetemp={folder / 'temporary'}",  # else, with -n, it ends by removing what large sessions have left
        *words,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
        "COLUMNS": "200"
    }
    try:
        said = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail("\n".join((part or b"").decode() for part in (late.stdout, late.stderr)))
    text = said.stdout + said.stderr
    return {
        name: outcome
        for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR|XFAIL) (?:.*::)?(\S+)", text, re.MULTILINE)
    }, text


EXPECTED = {
    "test_without_a_lab": "PASSED",
    "test_reopened[full]": "PASSED",
    "test_reopened[short]": "PASSED",
    "test_expected_to_fail": "XFAIL",
    "test_two_labs": "PASSED",
    "test_the_wire_keeps_nothing[80]": "FAILED",
}


CAPTURES = [
    "test_course.py-TestFailing-test_the_wire_keeps_nothing-80.pcapng",
    "test_course.py-test_expected_to_fail-lab.pcapng",
    "test_course.py-test_reopened-full.pcapng",
    "test_course.py-test_reopened-short.pcapng",
    "test_course.py-test_two_labs-lab-2.pcapng",
    "test_course.py-test_two_labs-lab.pcapng",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instructor's folder, outside the project."""
    made = tmp_path_factory.mktemp("course")
    (made / "test_course.py").write_text(TESTS)
    (made / "holds.py").write_text(SCENARIO.replace("COUNT", "0"))
    (made / "refuted.py").write_text(SCENARIO.replace("COUNT", "1"))
    return made


@pytest.mark.guest
@pytest.mark.slow
def test_in_the_lab_kernel(folder):
    """Markers, fixtures and outcomes are as in any pytest; of a failure, the story, the ladder, the
    output and the evidence come back.
    """
    outcomes, text = run_pytest(
        folder, "--twlab-engine=guest", f"--junitxml={folder / 'junit.xml'}", "--twlab-pcap=captures"
    )
    assert outcomes == EXPECTED, text
    assert "1 skipped" in text
    for words in (
        r"assert 'pending' == ''",
        "said inside",
        r" 1\. The wire takes what the client sends\.",
        r"SYN seq 0 .*never released",
    ):
        assert re.search(words, text), words
    (run,) = (folder / "runs").iterdir()
    result = read_result(run)
    assert (result.verdict, result.hypothesis) == (Verdict.REFUTED, "A SYN that the wire takes is never answered.")
    assert (result.engine, result.topology) == ("guest", "pair")
    (arm,) = result.arms.values()
    assert (run / arm.capture).stat().st_size > 100
    cases = {case.get("name"): case for case in ElementTree.parse(folder / "junit.xml").iter("testcase")}
    properties = {p.get("name"): p.get("value") for p in cases["test_the_wire_keeps_nothing[80]"].iter("property")}
    assert properties == {"twlab_run": str(run), "twlab_capture": str(run / arm.capture)}
    captures = sorted(path.name for path in (folder / "captures").glob("*.pcapng"))
    assert captures == CAPTURES
    properties = {p.get("name"): p.get("value") for p in cases["test_reopened[short]"].iter("property")}
    assert properties == {"twlab_capture": str(folder / "captures" / "test_course.py-test_reopened-short.pcapng")}
    shown = subprocess.run(
        [sys.executable, "-m", "twlab", "show", str(run)], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert "The wire takes what the client sends." in shown


@pytest.mark.host
@pytest.mark.slow
def test_on_the_host_and_side_by_side(folder):
    """The same on this machine's kernel, by pytest-xdist's workers, each with labs of its own; and
    nothing is kept unasked.
    """
    outcomes, text = run_pytest(folder, "--twlab-engine=host", "-n", "2", "--twlab-out=side")
    assert outcomes == EXPECTED, text
    assert re.search(r"SYN seq 0 .*never released", text)
    assert len(list((folder / "side").iterdir())) == 1


@pytest.mark.host
def test_captures_of_passing_tests_are_named_in_the_report(folder, tmp_path):
    """With --twlab-pcap, a test's capture is a property of its JUnit record; no name has its arm
    twice.
    """
    tests = ("test_course.py::test_reopened", "test_course.py::test_two_labs")
    options = ("--twlab-engine=host", f"--junitxml={tmp_path / 'junit.xml'}", f"--twlab-pcap={tmp_path / 'captures'}")
    outcomes, text = run_pytest(folder, *options, *tests)
    assert set(outcomes.values()) == {"PASSED"}, text
    cases = ElementTree.parse(tmp_path / "junit.xml").iter("testcase")
    named = {p.get("value") for case in cases for p in case.iter("property") if p.get("name") == "twlab_capture"}
    assert named == set(map(str, (tmp_path / "captures").iterdir()))
    assert sorted(Path(path).name for path in named) == CAPTURES[2:]


ALIKE = """
import pytest

@pytest.mark.parametrize("port", [-1, 1])
def test_it(lab, port):
    lab["client"].try_connect(lab["server"], 9000 + port, source_port=40_000)
"""


@pytest.mark.host
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one", "two"])
def test_no_capture_takes_the_place_of_another(tmp_path, workers):
    """Two tests whose names differ in a sign alone have a file each, and JUnit names the right one,
    by whichever worker they run.
    """
    (tmp_path / "test_alike.py").write_text(ALIKE)
    options = ("--twlab-engine=host", f"--junitxml={tmp_path / 'junit.xml'}", "--twlab-pcap=captures")
    outcomes, text = run_pytest(tmp_path, *options, *workers)
    assert outcomes == {"test_it[-1]": "PASSED", "test_it[1]": "PASSED"}, text
    named = {
        case.get("name"): Path(p.get("value")).name
        for case in ElementTree.parse(tmp_path / "junit.xml").iter("testcase")
        for p in case.iter("property")
    }
    assert named == {"test_it[-1]": "test_alike.py-test_it-1.pcapng", "test_it[1]": "test_alike.py-test_it-1~2.pcapng"}
    for test, name in named.items():
        ports = [40_000, 9000 + int(test[8:-1])]
        assert struct.pack(">HH", *ports) in (tmp_path / "captures" / name).read_bytes()


@pytest.mark.host
def test_what_pytest_shows_of_fixtures(folder):
    """--setup-show and --setup-only run a test with a lab; --setup-plan starts none."""
    test = "test_course.py::test_two_labs"
    for option in ("--setup-show", "--setup-only"):
        _, text = run_pytest(folder, "--twlab-engine=host", option, test)
        assert "1 failed" not in text and "error" not in text.lower(), text
    _, text = run_pytest(folder, "--twlab-engine=guest", "--twlab-kernel=/nowhere", "--setup-plan", test)
    assert "make_lab" in text and "no tests ran" in text, text


@pytest.mark.host
def test_a_refuted_scenario_whose_evidence_cannot_be_kept(folder, tmp_path):
    """The verdict and the story are told, and why nothing is kept; the remedy names the option."""
    (tmp_path / "file").write_text("")
    done, text = run_pytest(folder, "--twlab-engine=host", f"--twlab-out={tmp_path / 'file'}", "refuted.py")
    assert done == {"end-of-time-wait": "FAILED"}
    assert "end-of-time-wait: REFUTED" in text
    assert re.search(r"not kept: results cannot be written to .*\[cannot-write\]\n +remedy: .* --twlab-out", text)


@pytest.mark.host
def test_a_place_that_takes_nothing_ends_no_session(folder, tmp_path):
    """Captures that cannot be written are refused before the first test; evidence that cannot be
    kept is said, and the tests go on.
    """
    failing = "test_course.py::TestFailing"
    done, text = run_pytest(folder, "--twlab-engine=host", "--twlab-pcap=/proc/nowhere", failing)
    assert (
        done == {} and "--twlab-pcap: results cannot be written to /proc/nowhere" in text and "[cannot-write]" in text
    )
    outcomes, text = run_pytest(
        folder, "--twlab-engine=host", "--twlab-out=/proc/nowhere", failing, "test_course.py::test_without_a_lab"
    )
    assert outcomes == {"test_without_a_lab": "PASSED", "test_the_wire_keeps_nothing[80]": "FAILED"}, text
    assert re.search(r"twlab evidence.*\nnot kept: results cannot be written to /proc/nowhere", text)
    assert re.search(r" 1\. The wire takes what the client sends\.", text), "the story is told all the same"
    outcomes, text = run_pytest(
        folder, "--twlab-engine=host", "--twlab-keep", "--twlab-out=/proc/nowhere", "test_course.py::test_two_labs"
    )
    assert "cannot-write" in text and "1 passed, 1 error" in text
    assert "INTERNALERROR" not in text and "Traceback" not in text


@pytest.mark.guest
def test_a_scenario_is_a_test(folder):
    """A file of scenarios, named on the command line, is collected; a refuted one tells its story
    and its ladder.
    """
    _, text = run_pytest(folder, "holds.py", "refuted.py", "--twlab-engine=guest", "--twlab-out=scenarios", "-n", "2")
    assert re.search(r"^PASSED holds.py::end-of-time-wait", text, re.MULTILINE), text
    assert re.search(r"^FAILED refuted.py::end-of-time-wait", text, re.MULTILINE), text
    for words in (
        "end-of-time-wait: REFUTED",
        "count: predicted 1, observed 0",
        "TIME-WAIT 1 s",
        r" 1\. A connection is opened and closed\.",
    ):
        assert re.search(words, text), words
    (run,) = (folder / "scenarios").iterdir()
    assert json.loads((run / "result.json").read_text())["verdict"] == "REFUTED"


@pytest.mark.guest
def test_mistakes_are_told_in_one_message(tmp_path):
    """A setting that there is not, arms without a lab, a node that the topology has not, a lab
    asked for too late.
    """
    (tmp_path / "test_setting.py").write_text(
        "import pytest\n@pytest.mark.arm('x', time_wait=1)\ndef test_a(lab): pass\n"
    )
    (tmp_path / "test_no_lab.py").write_text("import pytest\n@pytest.mark.arm('x')\ndef test_b(): pass\n")
    (tmp_path / "test_late.py").write_text("def test_d(request):\n    request.getfixturevalue('lab')\n")
    (tmp_path / "test_node.py").write_text(
        "import pytest\n@pytest.mark.arm('x', on={'moon': {'timestamps': 1}})\ndef test_c(lab): pass\n"
    )
    outcomes, text = run_pytest(tmp_path, "--continue-on-collection-errors")
    assert (outcomes["test_c[x]"], outcomes["test_d"]) == ("ERROR", "FAILED")
    assert re.search("1 failed, 3 errors", text), text
    for words in (
        "time_wait'",
        "the settings are: time_wait_s",
        "has arms and no lab",
        "as an argument of the test",
        "no-such-node",
    ):
        assert words in text, words
    assert "Traceback" not in text


@pytest.mark.guest
def test_the_example_in_the_documentation(tmp_path):
    """Passes as it stands, both arms."""
    text = (ROOT / "docs" / "guides" / "pytest.md").read_text().partition("## A test\n")[2]
    (tmp_path / "test_it.py").write_text(textwrap.dedent(re.search(r"\n\n((?:    .*\n|\n)+)", text)[1]))
    outcomes, said = run_pytest(tmp_path)
    assert outcomes == {"test_reopened[full]": "PASSED", "test_reopened[short]": "PASSED"}, said


def test_cheap_to_load(tmp_path):
    """A pytest that has no use for labs imports nothing heavy with the plugin."""
    (tmp_path / "test_it.py").write_text(
        f"import sys\ndef test_it():\n    assert [name for name in {HEAVY} if name in sys.modules] == []\n"
    )
    outcomes, text = run_pytest(tmp_path)
    assert outcomes == {"test_it": "PASSED"}, text


def test_a_fixture_called_lab_may_be_somebody_else_s(tmp_path):
    """Another project's `lab` is left alone."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.fixture\ndef lab():\n    return 1\ndef test_it(lab):\n    assert lab == 1\n"
    )
    outcomes, text = run_pytest(tmp_path, "-p", "xdist", "-n", "2")
    assert outcomes == {"test_it": "PASSED"}, text


def test_an_engine_that_this_machine_has_not(tmp_path):
    """One message with its remedy, and no traceback."""
    (tmp_path / "test_it.py").write_text("def test_it(lab):\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--twlab-engine=guest"]
    environment = {**os.environ, "TWLAB_KERNEL": "/nonexistent"}
    said = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    ).stdout
    assert "remedy: " in said
    assert "Traceback" not in said
