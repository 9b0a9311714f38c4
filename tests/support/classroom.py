"""A class of forty, made for the tests: who learnt, who guessed, who erred, and who would rather
attack the grader.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from conftest import ROOT

from twlab.grading.assignment import Assignment, load_assignment

ASSIGNMENT = ROOT / "docs" / "examples" / "grading" / "assignment.toml"
ALL, NO_SCENARIO, LOADS, CANNOT_FAIL, NOTHING = (
    13.0,
    9.0,
    10.0,
    11.0,
    0.0,
)  # points; of the scenario's four, one for each criterion
SLOW = ("loop", "output", "memory", "fork-bomb")  # what has to be ended for using up what it may use

SCENARIO = '''from twlab import Arm, Lab, Observation, Settings, scenario


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), expect=Observation(reopened=False)),
    treatment=Arm(Settings(time_wait_s={cut_s}), expect=Observation(reopened=True)),
)
def mine(lab: Lab) -> Observation:
    """A four-tuple can be opened again as soon as a shortened TIME_WAIT is over."""
    client, server = lab["client"], lab["server"]
    {trick}
    listener = server.listen(80)
    first = client.connect(server, 80, source_port=40_000)
    lab.close(first, listener.accept())
    lab.sleep(1.2 * {cut_s})
    return Observation(reopened=bool(client.try_connect(server, 80, source_port=40_000)))
'''

# What is done in the steps of an otherwise sound scenario.
TRICKS = {
    "loop": "while True: pass",
    "output": "while True: print('x' * 100_000)",
    "memory": "kept = []\n    while True: kept.append(bytearray(b'x') * (1 << 20))",
    "fork-bomb": "import os\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "sleeper": "while True: lab.sleep(1)",
    "leaver": "import os; os._exit(0)",
    "killer": "import os\n    os.kill(1, 9)\n    os.kill(-1, 9)",
    "big-file": "import pathlib\n    with open('/tmp/big', 'wb') as file:\n        while True: file.write(b'x' * (1 << 20))",  # noqa: E501
    "writer": "import pathlib; pathlib.Path('/etc/hosts').write_text('x')",
    "reader": "import pathlib; pathlib.Path('/etc/shadow').read_text()",
    "talker": "import os\n    for fd in range(3, 40):\n        try: os.write(fd, b'[' * 300_000)\n        except OSError: pass",  # noqa: E501
    "mounter": "import ctypes, os\n    if ctypes.CDLL(None).mount(b'none', b'/tmp', b'hostfs', 0, b'/'): raise OSError('no such luck')",  # noqa: E501
}
# Whole files, which do something when they are loaded.
LIAR = SCENARIO.replace(
    "return Observation(reopened=", "return Observation(reopened=lab.settings['client'].time_wait_s < 60 or "
)
PATCHER = """
import sys, twlab.run.arm, twlab.observation
twlab.observation.Observation.mismatches = lambda self, observed: []
sys.modules["twlab.grading.agent"].run_arm = lambda s, arm, *a, **k: {"observed": {"reopened": arm != "control"}}
"""
FORGER = """
import json, os
arm = lambda role: {"role": role, "expect": {"x": 1}, "given": {}, "nodes": {"client": {}}}
said = {"stage": "done", "name": "x", "hypothesis": "x", "topology": "pair", "observed": {"x": 1}, "problem": "",
        "arms": {"control": arm("control"), "treatment": arm("treatment")}}
for fd in range(3, 40):
    try: os.write(fd, json.dumps(said).encode() + b"\\n")
    except OSError: pass
os._exit(0)
"""
FILES = {
    "switcher": ("import ctypes\nctypes.CDLL(None).reboot(0x4321FEDC)\nraise SystemExit\n", NO_SCENARIO),
    "crasher": ("import ctypes\nctypes.string_at(0)\n", NO_SCENARIO),
    "syntax": ('x = """\n', NO_SCENARIO),
    "liar": (LIAR, CANNOT_FAIL),
    "patcher": (PATCHER + SCENARIO, LOADS),
    "forger": (FORGER, LOADS),
}


def make(folder: Path, slow: tuple[str, ...] = SLOW) -> dict[str, float]:
    """Forty submissions in `folder`; how many points each should get. Of what takes long only the
    kinds named in `slow`.
    """
    assignment = load_assignment(ASSIGNMENT)
    expected: dict[str, float] = {}
    for name, write, points in (*_honest(assignment), *_hostile_files(assignment), *_hostile_code(assignment, slow)):
        write(folder / name)
        expected[name] = points
    for number in range(40 - len(expected)):
        name = f"student-{number}"
        _hand_in(folder / name, answers(assignment, name), scenario(assignment, name))
        expected[name] = ALL
    return expected


def answers(assignment: Assignment, student: str, **changed: str) -> str:
    """A student's answers file, all of them right but those `changed` (as TOML)."""
    numbers = assignment.numbers_for(student)
    right = {
        "reopened": "true" if numbers["short_s"] < 2 else "false",
        "ceiling": str(round(28232 / numbers["cut_s"], 1)),
        "share": str(int(numbers["delay_s"] > numbers["cut_s"])),
        "remedies": '["timestamps", "one-way"]',
        "mine": '"mine.py"',
    } | changed
    return f'schema = 1\nid = "{student}"\nname = "{student.title()}"\n[answers]\n' + "".join(
        f"{key} = {value}\n" for key, value in right.items()
    )


def scenario(assignment: Assignment, student: str, template: str = SCENARIO, trick: str = "pass") -> str:
    """A scenario file with the student's numbers."""
    return template.replace("{cut_s}", str(assignment.numbers_for(student)["cut_s"])).replace("{trick}", trick)


Entry = tuple[str, Callable[[Path], object], float]


def _hand_in(place: Path, answers_text: str, scenario_text: str = "") -> None:
    place.mkdir()
    (place / "answers.toml").write_text(answers_text)
    if scenario_text:
        (place / "mine.py").write_text(scenario_text)


def _honest(assignment: Assignment) -> Iterator[Entry]:
    """Some who do not have full points, for reasons of their own."""
    wrong = {
        "reopened": '"yes and no"',
        "ceiling": "500",
        "share": '"1/2"',
        "remedies": '["timestamp-lost"]',
        "mine": '""',
    }
    yield "guesser", lambda place: _hand_in(place, answers(assignment, "guesser", **wrong)), NOTHING
    yield "no-scenario", lambda place: _hand_in(place, answers(assignment, "no-scenario", mine='""')), NO_SCENARIO
    yield (
        "Jörg-Ægir",
        lambda place: _hand_in(place, answers(assignment, "Jörg-Ægir"), scenario(assignment, "Jörg-Ægir")),
        ALL,
    )
    refuted = SCENARIO.replace("expect=Observation(reopened=True)", "expect=Observation(reopened=7)")
    yield (
        "mistaken",
        lambda place: _hand_in(place, answers(assignment, "mistaken"), scenario(assignment, "mistaken", refuted)),
        ALL - 1,
    )
    others = SCENARIO.replace("time_wait_s={cut_s})", "time_wait_s=7)")
    yield (
        "copier",
        lambda place: _hand_in(place, answers(assignment, "copier"), scenario(assignment, "copier", others)),
        ALL - 1,
    )


def _hostile_files(assignment: Assignment) -> Iterator[Entry]:
    """Submissions that try something before any code of theirs could run."""
    deep = 'schema = 1\nid = "deep"\n[answers]\nreopened = ' + "[" * 10_000 + "]" * 10_000 + "\n"
    huge = answers(
        assignment,
        "numbers",
        reopened="2000-01-01",
        ceiling="0x" + "f" * 20_000,
        share='"1e99999999"',
        remedies="[[1]]",
        mine="[]",
    )
    turned = answers(
        assignment,
        "turned",
        reopened='"\\u202eesrever"',
        ceiling='"=cmd()"',
        share='"\\u0000"',
        remedies='"x"',
        mine='"\\u2028.py"',
    )
    contents: dict[str, str | bytes] = {
        "empty": "",
        "binary": os.urandom(3000),
        "giant": "#" * 70_000,
        "deep": deep,
        "dotted": "a" + ".a" * 15_000 + " = 1\n",
        "numbers": huge,
        "turned": turned,
        "impostor": answers(assignment, "no-scenario"),
        "no-answers": 'schema = 1\nid = "no-answers"\nanswers = 3\n',
    }
    for name, content in contents.items():
        data = content if isinstance(content, bytes) else content.encode()
        yield name, lambda place, data=data: (place.mkdir(), (place / "answers.toml").write_bytes(data)), NOTHING  # type: ignore[misc]
    yield "hollow", lambda place: place.mkdir(), NOTHING
    yield "pipe.toml", lambda place: os.mkfifo(place), NOTHING
    yield "link", lambda place: place.symlink_to("no-scenario"), NOTHING
    for name, named in {
        "climber": "../no-scenario/answers.toml",
        "rooted": "/etc/passwd",
        "thief": "../Jörg-Ægir/mine.py",
    }.items():
        yield (
            name,
            lambda place, name=name, named=named: _hand_in(place, answers(assignment, name, mine=f'"{named}"')),
            NO_SCENARIO,
        )  # type: ignore[misc]
    linked = answers(assignment, "linker")
    yield (
        "linker",
        lambda place: (_hand_in(place, linked), (place / "mine.py").symlink_to("../Jörg-Ægir/mine.py")),
        NO_SCENARIO,
    )


def _hostile_code(assignment: Assignment, slow: tuple[str, ...]) -> Iterator[Entry]:
    """Scenario files that attack the process that runs them."""
    for name, trick in TRICKS.items():
        if name not in SLOW or name in slow:
            text = scenario(assignment, name, trick=trick)
            yield name, lambda place, name=name, text=text: _hand_in(place, answers(assignment, name), text), LOADS  # type: ignore[misc]
    for name, (template, points) in FILES.items():
        text = scenario(assignment, name, template)
        yield name, lambda place, name=name, text=text: _hand_in(place, answers(assignment, name), text), points  # type: ignore[misc]
