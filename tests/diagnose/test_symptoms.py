"""Causes are found by their symptom, and by what balancers and gateways print of themselves."""

import json
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT
from diagnose_cases import judged
from hypothesis import given
from hypothesis import strategies as st

from twlab.catalogue import load_scenarios
from twlab.diagnose.diagnosis import diagnose
from twlab.diagnose.symptom_table import BY_NAME, SYMPTOMS
from twlab.diagnose.symptoms import find, markdown, terms
from twlab.diagnose.texts.assemble import Text, snapshot

DATA = ROOT / "tests" / "data" / "diagnose"
PAGE = (ROOT / "docs" / "findings" / "balancers.md").read_text()
GUIDE = (ROOT / "docs" / "guides" / "is-it-time-wait.md").read_text()
FIRST = {  # what a user may type, and the cause that comes first
    "1s": "ipvs-half-dead",
    "connects of exactly 1 s": "ipvs-half-dead",
    "10ms": "half-open-rest",
    "67 s": "lost-reset-no-timestamps",
    "134s": "lost-reset",
    "3 s": "few-ports",
    "EADDRINUSE": "bind-first",
    "Address already in use": "bind-first",
    "(99)": "own-ports",
    "Cannot assign requested address": "own-ports",
    "502": "own-ports",
    "504 firewall": "lost-reset",
    "timeouts behind a cloud NAT": "ports-at-rest",
    "half of new connections to a removed backend": "ipvs-drained-server",
    "EADDRINUSE istio": "sidecar-binds-first",
    "esp32": "lwip-peer",
}


@pytest.mark.parametrize("text", FIRST)
def test_a_symptom_leads_to_its_cause(text):
    """In each form that a user may have."""
    assert find([text], SYMPTOMS)[0].name == FIRST[text]
    assert find(text.split(), SYMPTOMS)[0].name == FIRST[text]


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("1 minute", 60.0),
        ("2 mins", 120.0),
        ("1,5s", 1.5),
        ("1500 msec", 1.5),
        ("504.", "504"),
        ("EADDRINUSE.", "EADDRINUSE"),
    ],
)
def test_people_write_numbers_in_many_ways(text, term):
    """Units in full, a comma, the full stop of a sentence."""
    assert terms(["it says", text])[0 if isinstance(term, float) else -1] == term


def test_durations_errors_and_statuses_are_told_from_words():
    """A number of an error is its name; a status stays a number."""
    assert terms(["10ms", "1.5 s", "98", "503", "Connection timed out", "backend"]) == [
        0.01,
        1.5,
        "ETIMEDOUT",
        "EADDRINUSE",
        "503",
        "backend",
    ]


@given(st.text(max_size=60))
def test_any_text_has_an_answer(text):
    """All rows, some, or none."""
    assert set(find([text], SYMPTOMS)) <= set(SYMPTOMS)


def test_every_duration_that_a_row_names_is_one_that_finds_it():
    """Its bounds, and all between."""
    for row in SYMPTOMS:
        for seconds in row.connect_s or ():
            assert row in find([f"{seconds} s"], SYMPTOMS)


def test_every_row_can_be_shown():
    """The scenarios and arms exist; most rows have one."""
    catalogue = load_scenarios()
    for words in (shlex.split(shown) for row in SYMPTOMS for shown in row.shows):
        assert set(words[1::2]) <= {"--arm"}
        assert set(words[2::2]) <= set(catalogue[words[0]].arms)
    assert sum(not row.shows for row in SYMPTOMS) <= 2
    assert len(BY_NAME) == len(SYMPTOMS)


def test_the_page_has_the_table():
    """Else: python -c 'from twlab.diagnose import symptom_table, symptoms;
    print(symptoms.markdown(symptom_table.SYMPTOMS))'.
    """
    assert markdown(SYMPTOMS) in PAGE


def found(*texts):
    (part,) = diagnose(snapshot(texts, "test")).parts
    return {finding.cause: finding for finding in part.findings}


@pytest.mark.parametrize("tool", ["ip_vs", "ipvsadm"])
def test_a_balancers_tables_tell_of_servers_that_are_gone(tool):
    """Recorded in a lab, s1 at weight 0 and s2 removed: silence and an endless draining with mode
    0, a second with what kube-proxy sets. The kernel's files and ipvsadm agree.
    """
    texts = {kind: (DATA / f"{tool}-{kind}.txt").read_text().splitlines(keepends=True) for kind in KINDS}
    first = found(Text("a", texts["reuse-0"]))
    assert first.keys() == {"ipvs-removed-server", "ipvs-drained-server"}
    assert "4 client ports" in first["ipvs-removed-server"].text
    second = found(Text("b", texts["nodest-1"]))
    assert second.keys() == {"ipvs-half-dead"}
    assert "2 client ports" in second["ipvs-half-dead"].text and "10.2.2.1:80" in second["ipvs-half-dead"].text


KINDS = ("reuse-0", "nodest-1")


def test_texts_of_both_kinds_count_once():
    """The kernel's files and ipvsadm's lists of one machine."""
    texts = [(DATA / f"{tool}-reuse-0.txt").read_text() for tool in ("ip_vs", "ipvsadm")]
    (place,) = snapshot([Text("both", "".join(texts).splitlines(keepends=True))], "test").namespaces
    assert (len(place.balanced), len(place.balancer_entries)) == (2, 9)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"vs.conn_reuse_mode": "1"}, {"ipvs-removed-half-dead"}),
        ({"vs.conn_reuse_mode": "2"}, {"ipvs-removed-half-dead"}),
        ({"vs.expire_nodest_conn": "1"}, set()),
    ],
)
def test_settings_decide_what_an_entry_does(settings, expected):
    """As measured: mode 1 lets entries of closed connections go; expire_nodest_conn all."""
    lines = (DATA / "ip_vs-reuse-0.txt").read_text().splitlines(keepends=True)
    more = [f"net.ipv4.{name} = {value}\n" for name, value in settings.items()]
    assert found(Text("a", lines), Text("b", more)).keys() == expected


def test_counters_tell_of_refused_syns():
    """TIME_WAITs that refuse, with tcp_rfc1337 and without; connections that one end has lost."""
    assert "second-client" in judged([], counters={"TcpExtPAWSTimewait": 7}).causes
    assert "lost-reset" in judged([], {"tcp_rfc1337": "1"}, {"TcpExtPAWSTimewait": 7}).causes
    assert "half-open-rest" in judged([], counters={"TcpExtTCPSYNChallenge": 3}).causes
    assert not {"second-client", "lost-reset", "half-open-rest"} & set(judged([]).causes)


def test_a_gateways_list_tells_of_a_flow_table_and_of_ports_that_ran_out():
    """Offloaded entries; SYNs dropped while the table has room."""
    entry = (
        "tcp      6 src=10.0.0.9 dst=10.2.1.1 sport=40000 dport=80 src=10.2.1.1 dst=192.0.2.7 "
        "sport=80 dport=50000 [OFFLOAD] mark=0 use=2\n"
    )
    assert "flowtable-reset" in found(Text("conntrack -L", [entry]))
    counted = "cpu=0   \tfound=0 invalid=0 insert=0 insert_failed=9 drop=9 early_drop=0\n"
    finding = found(Text("conntrack -S", [counted]))["conntrack-insert-failed"]
    assert "snat-full-range" in finding.shows and "range" in finding.remedy


def test_what_diagnose_names_the_guide_and_the_table_have():
    """Its findings on balancers bear the rows' names."""
    text = (ROOT / "twlab" / "diagnose" / "balancer_causes.py").read_text()
    for name in BY_NAME:
        if f'"{name}"' in text:
            assert f"`{name}`" in GUIDE


def run(*words):
    command = [sys.executable, "-m", "twlab", "symptom", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_command():
    """Text, JSON, and one message where it knows nothing."""
    assert "ipvs-half-dead" in run("1s").stdout and "tell " in run("1s").stdout
    assert [row["name"] for row in json.loads(run("--json").stdout)] == [row.name for row in SYMPTOMS]
    for words in (["frobnicate"], ["--show-me"]):
        done = run(*words)
        assert done.returncode == 2 and "remedy" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.guest
def test_show_me_runs_the_scenario(tmp_path):
    """The arms that the row names, beside the control."""
    done = run("67s", "without", "timestamps", "--show-me", "--out", str(tmp_path))
    assert done.returncode == 0
    assert "lost-reset" in done.stdout and "no-timestamps" in done.stdout and "SUPPORTED" in done.stdout
