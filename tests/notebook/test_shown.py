"""Runs, sweeps, plans and captures as objects: what they hold, and how they show themselves."""

import importlib.util
import shutil
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT

import twlab
from twlab.notebook import frames, progress
from twlab.notebook.studies import Sweep
from twlab.results.pcapng import read_capture
from twlab.studies.sweep.table import SweepTable


@pytest.fixture
def run(tmp_path):
    shutil.copytree(ROOT / "tests" / "data" / "runs" / "stale-data", tmp_path / "run")
    return twlab.open(tmp_path / "run")


@pytest.fixture
def without_pandas(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(frames.importlib.util, "find_spec", lambda name: None if name == "pandas" else found(name))


def test_an_old_run_has_what_its_folder_holds(run):
    assert run.scenario == "stale-data"
    assert run.verdict == "SUPPORTED"
    assert list(run.arms) == [arm.name for arm in run] and len(run) == len(run.arms)
    assert run["treatment"].ok is True
    assert run["treatment"].observed["foreign_bytes"] == 400
    assert run["treatment"].counters["server"]
    assert run["treatment"].capture.is_file()


def test_an_arm_that_is_not_there_is_named_with_the_nearest(run):
    with pytest.raises(twlab.UsageError, match="did you mean 'treatment'") as raised:
        run["tretment"]
    assert raised.value.slug == "no-such-arm"


def test_packets_are_the_captures_segments_one_row_each(run):
    """As many as the file holds (the recorded one was thinned); comments say what the lab did."""
    packets = run["treatment"].packets
    assert len(packets) == len(read_capture(run["treatment"].capture))
    assert list(packets.columns[:3]) == ["number", "at_s", "interface"]
    assert packets.number.is_monotonic_increasing
    assert packets.comment.str.contains("released").any()
    assert (packets[packets["flags"] == "S"].length == 0).all()


def test_without_pandas_tables_are_lists_of_dicts(run, without_pandas):
    packets = run["treatment"].packets
    assert packets[0]["flags"] == "S" and packets[0]["number"] == 1
    assert {row["arm"] for row in run.observations} == set(run.arms)


def test_observations_mark_what_was_not_predicted(run):
    run["treatment"].result.mismatches.append("foreign_bytes: predicted 1, observed 400")
    rows = run.observations
    assert list(rows[~rows.ok][["arm", "fact"]].itertuples(index=False, name=None)) == [("treatment", "foreign_bytes")]


def test_a_run_shows_itself_in_a_notebook_and_as_text(run):
    """The page's part has each arm, the ladder, both themes; nothing from elsewhere, no script."""
    html = run._repr_html_()
    assert all(f" {name}: " in html for name in run.arms)
    assert "SUPPORTED" in html and "<svg" in html and "prefers-color-scheme: dark" in html
    assert "data-jp-theme-light=false" in html
    assert "<script" not in html and "http-equiv" not in html and 'src="' not in html
    assert repr(run) == str(run)
    assert str(run).startswith("stale-data: SUPPORTED\n")
    assert "arm treatment: as predicted" in run.show("treatment")


def test_values_of_a_result_are_escaped(run):
    run["treatment"].observed["errors"] = "<img src=x>"
    assert "<img src=x>" not in run._repr_html_()
    assert "&lt;img src=x&gt;" in run._repr_html_()


def test_a_missing_capture_costs_the_ladder_alone(run):
    run["treatment"].capture.unlink()
    assert "No ladder." in run._repr_html_()
    with pytest.raises(twlab.UsageError):
        _ = run["treatment"].packets


def test_ladder_and_plots_show_themselves(run):
    ladder = run["treatment"].ladder
    assert ladder._repr_html_().count("<svg") == 1
    assert "TIME-WAIT" in str(ladder) and len(ladder.unfolded) > len(str(ladder))
    for plot in run["treatment"].plots:
        assert "<svg" in plot._repr_html_() and plot.title in str(plot)


def test_a_plan_shows_answer_advice_and_ways():
    plan = twlab.plan(rate_per_s=800)
    assert plan.answer == "does not suffice"
    assert twlab.plan(rate_per_s=100).answer == "suffices"
    assert plan.ways.name[0] == "as-asked" and not plan.ways.serves[0]
    assert not plan.ways.set_index("name").serves["linger-0"]  # sustains it, and is not advised
    assert plan.advice[0] in str(plan) and "does not suffice" in plan._repr_html_()


def test_a_plan_names_the_nearest_of_an_unknown_value():
    with pytest.raises(twlab.UsageError, match="did you mean 'rate_per_s'"):
        twlab.plan(rate_per=800)


def test_a_sweep_shows_a_map():
    swept = SweepTable("stale-segment", trials=10, seed=1, kernel="7.3.4-twlab")
    for delay, harmed in (("2", 0), ("10", 10)):
        cell = ("timestamps=0", "time_wait_s=5", f"delay_s={delay}")
        swept.done[cell] = {"harmed": harmed, "delayed": 10 - harmed, "unharmed": 0}
    shown = Sweep(swept)
    assert shown.table.harmed.tolist() == [0, 10]
    assert shown.table.delay_s.tolist() == [2.0, 10.0]
    assert '<td class="harmed">harmed</td>' in shown._repr_html_()
    assert "delay_s=10  10 harmed" in str(shown)


def test_captures_are_observed(run):
    seen = twlab.observe(run["treatment"].capture)
    assert seen.figures["packets"] > 0 and list(seen.faults) == []
    assert "TIME_WAIT" in str(seen) and "TIME_WAIT" in seen._repr_html_()
    with pytest.raises(twlab.UsageError, match="no capture was named"):
        twlab.observe()


def test_the_functions_stay_callable_whatever_is_imported_first():
    """`twlab.run` and `twlab.observe` are packages as well, and the import system binds those."""
    import twlab.observe.reading
    import twlab.run.runner

    assert callable(twlab.run) and callable(twlab.observe)
    assert twlab.run.runner.Order
    assert not {"open", "run", "plan"} & set(twlab.__all__)
    with pytest.raises(AttributeError):
        _ = twlab.runs


def test_a_notebooks_bar_moves_and_goes(monkeypatch):
    """In IPython with a kernel, the bar is one place of the output, empty at the end."""
    shown = []
    handle = SimpleNamespace(update=lambda html: shown.append(html._repr_html_()))
    fake = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=lambda html, display_id: handle))
    with progress.bar("a <title>") as advance:
        advance(0.5, "half")
    assert shown == ['<progress max="1" value="0.5000"></progress> a &lt;title&gt;: half', ""]


def test_no_bar_where_there_is_nothing_to_show_it(capsys):
    with progress.bar("x") as advance:
        advance(0.5, "half")
    assert capsys.readouterr().err == ""
