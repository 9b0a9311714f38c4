"""`twlab.run` and `twlab.sweep`, live: in threads, in an event loop, on a kernel by name."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

import twlab
from twlab.engines import kernel

pytestmark = pytest.mark.guest


def test_a_run_takes_settings_as_keywords(tmp_path):
    run = twlab.run("stale-data", arms=["treatment"], time_wait_s=30, seed=5, out=tmp_path)
    assert run["treatment"].settings["client"]["time_wait_s"] == 30
    assert run.result.seed == 5 and run.folder.parent == tmp_path
    assert "--set time_wait_s=30" in run.command


def test_settings_of_one_node_alone(tmp_path):
    run = twlab.run("stale-data", arms=["treatment"], on={"server": {"rfc1337": True}}, out=tmp_path)
    assert run["treatment"].settings["server"]["rfc1337"] is True
    assert not run["treatment"].settings["client"].get("rfc1337")


def test_an_unknown_setting_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(twlab.UsageError):
        twlab.run("stale-data", time_wait=10, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_threads_do_not_see_each_others_kernels(tmp_path):
    """Each call boots the kernel that it names; the variable that chooses for all is left alone."""
    here = kernel.find()
    before = os.environ.get("TWLAB_KERNEL")

    def run(number):
        return twlab.run("stale-data", seed=1, out=tmp_path / str(number), kernel=str(here.path))

    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(run, range(3)))
    assert {run.verdict for run in runs} == {"SUPPORTED"}
    captures = {arm: {run[arm].capture.read_bytes() for run in runs} for arm in runs[0].arms}
    assert all(len(different) == 1 for different in captures.values())
    assert os.environ.get("TWLAB_KERNEL") == before


def test_inside_a_running_event_loop(tmp_path):
    async def main():
        blocking = twlab.run("lost-last-ack", out=tmp_path)
        beside = await asyncio.to_thread(twlab.run, "lost-last-ack", out=tmp_path)
        return blocking, beside

    assert {run.verdict for run in asyncio.run(main())} == {"SUPPORTED"}


def test_a_kernel_that_is_not_built_is_refused(tmp_path):
    with pytest.raises(twlab.CapabilityError, match="has not been built"):
        twlab.run("stale-data", kernel="2.6", out=tmp_path)
    with pytest.raises(twlab.UsageError, match="names a lab kernel"):
        twlab.run("stale-data", kernel="7.3", engine="host", out=tmp_path)


def test_a_sweep_goes_on_from_its_file(tmp_path):
    """The second call finds all cells in the file, and gives the same."""
    grid = {"timestamps": [0], "time_wait_s": [2], "delay_s": [1, 8]}
    first = twlab.sweep("stale-segment", grid, trials=5, out=tmp_path / "s.json")
    again = twlab.sweep("stale-segment", grid, trials=5, out=tmp_path / "s.json")
    assert first.rows == again.rows and len(first.rows) == 2
    assert [row["harmed"] for row in first.rows] == [0, 5]
    assert first.kernel.endswith("-twlab")


def test_a_sweep_of_another_kernel_is_not_gone_on_with(tmp_path):
    """Its rows would be given as those of the kernel that was named."""
    grid = {"timestamps": [0], "time_wait_s": [2], "delay_s": [1]}
    file = tmp_path / "s.json"
    twlab.sweep("stale-segment", grid, trials=5, out=file)
    file.write_text(file.read_text().replace(kernel.info()["version"], "6.1.0-twlab"))
    with pytest.raises(twlab.UsageError, match="other-sweep"):
        twlab.sweep("stale-segment", grid, trials=5, out=file)
    with pytest.raises(twlab.CapabilityError, match="cannot-write"):
        twlab.sweep("stale-segment", grid, trials=5, out="/proc/nowhere/s.json")


def test_wrong_arguments_are_errors_of_twlab(tmp_path):
    """Each with a remedy, as the page says; a path is as good as its text."""
    for wrong in ({"jobs": 0}, {"trials": 0}, {"trials": "x"}):
        with pytest.raises(twlab.UsageError, match="from 1 on is wanted"):
            twlab.sweep("stale-segment", **wrong)
    for wrong in ({"rate_per_s": "x"}, {"origins": None}, {"reserved": 80}, {"closes_first": 3}, {"choice": 3}):
        with pytest.raises(twlab.UsageError, match="bad-plan"):
            twlab.plan(**wrong)
    with pytest.raises(twlab.UsageError, match="broken-scenario-file"):
        twlab.run(tmp_path / "nowhere.py")
    with pytest.raises(twlab.UsageError, match="broken-scenario-file"):
        twlab.sweep(tmp_path / "nowhere.py")
