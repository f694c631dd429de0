"""The script for a machine with a GPU: whatever fails there, what was found before is kept, and the rest is tried."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Run the script with sections that are functions of the file of results; what it has written then."""
    from benchmarks import gpu

    def run(ended, sections, limit=100.0, before=None, only=None):
        path = tmp_path / "gpu.json"
        if before is not None:
            gpu.write(path, before)
        monkeypatch.setattr(gpu, "SECTIONS", sections)
        calls = []

        def in_process(name, options, seconds):
            calls.append((name, seconds))
            return ended(name, gpu.read(path))

        monkeypatch.setattr(gpu, "in_process", in_process)
        status = gpu.run(SimpleNamespace(sections=only, dry_run=False, output=path, limit=limit))
        return status, calls, json.loads(path.read_text(encoding="utf-8"))

    return run


def test_a_section_that_fails_is_told_and_the_others_follow(script):
    from benchmarks.gpu import Ended

    def ended(name, results):
        # What was found before is in the file already.
        assert ("floors" in results) == (name == "errors")
        return Ended("failed: RuntimeError: lost", None) if name == "errors" else Ended("done", {"a": 1.0})

    status, calls, results = script(ended, (("floors", 10.0), ("errors", 20.0)))
    assert status == 1 and calls == [("floors", 10.0), ("errors", 20.0)]
    assert results["floors"] == {"a": 1.0} and results["sections"]["errors"] == "failed: RuntimeError: lost"


def test_layers_go_on_after_the_shape_that_failed(script):
    from benchmarks.gpu import Ended

    def ended(name, results):
        entries = [*results.get("layers", []), {"N": len(results.get("layers", []))}]
        return Ended("done" if len(entries) == 3 else "failed: illegal address", entries)

    status, calls, results = script(ended, (("layers", 50.0),))
    assert status == 0 and len(calls) == 3 and [entry["N"] for entry in results["layers"]] == [0, 1, 2]
    # One that fails before it has begun is not tried again.
    status, calls, _ = script(lambda name, results: Ended("failed: no device", None), (("layers", 50.0),))
    assert status == 1 and len(calls) == 1


def test_no_section_begins_when_the_time_is_over(script):
    from benchmarks.gpu import Ended

    _, calls, results = script(lambda name, results: Ended("done", {}), (("fit", 50.0),), limit=5.0, before={})
    assert not calls and results == {}


def test_some_sections_leave_the_others_as_they_were(script):
    from benchmarks.gpu import Ended

    sections = (("about", 10.0), ("fit", 10.0), ("errors", 10.0))
    before = {"fit": {"cuda": 1.0}, "sections": {"fit": "done"}}
    _, calls, results = script(lambda name, results: Ended("done", {}), sections, before=before, only=["errors"])
    assert [name for name, _ in calls] == ["about", "errors"] and results["fit"] == {"cuda": 1.0}
    # Each has all the time that there is.
    assert calls[1][1] > 90


def test_a_process_that_does_not_end_is_ended(monkeypatch, tmp_path):
    from benchmarks import gpu

    options = gpu.argparse.Namespace(output=tmp_path / "gpu.json", dry_run=True, quick=False, write_rule=False)
    started, popen = [], subprocess.Popen

    def sleeping(command, **more):
        part = command[command.index("--part") + 1]
        write = f"open({part!r}, 'w').write('{{\"found\": [1]}}'); import time; time.sleep(60)"
        started.append(popen([sys.executable, "-c", write], **more))
        return started[0]

    monkeypatch.setattr(gpu.subprocess, "Popen", sleeping)
    begin = time.monotonic()
    ended = gpu.in_process("layers", options, 3.0)
    assert time.monotonic() - begin < 30 and started[0].poll() is not None
    # What it had written until then is kept.
    assert ended.how == "ended after 3 s" and ended.found == [1]


def test_outcomes_of_tests_are_counted_and_the_one_that_hangs_is_named():
    from benchmarks.gpu_processes import _add_outcomes

    found = {"counts": {}, "failures": [], "hanging": []}
    text = "tests/a.py::test_one[a b] PASSED [ 10%]\ntests/a.py::test_two FAILED [ 20%]\ntests/a.py::test_three[x] "
    _add_outcomes(found, text, -9)
    assert found["counts"] == {"passed": 1, "failed": 1}
    assert found["failures"] == ["tests/a.py::test_two"] and found["hanging"] == ["tests/a.py::test_three[x]"]


class Driver:
    """A stream that records: what is launched on it while it does is kept, and done when the graph is launched."""

    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED=2)

    def __init__(self):
        self.recording = None

    def cuStreamBeginCapture(self, handle, mode):
        self.recording = []
        return (0,)

    def cuStreamEndCapture(self, handle):
        graph, self.recording = self.recording, None
        return 0, graph

    def cuGraphInstantiate(self, graph, flags):
        return 0, list(graph)

    def cuGraphLaunch(self, executable, handle):
        for work in executable:
            work()
        return (0,)


def test_a_recording_is_done_again_and_one_that_fails_is_ended():
    from benchmarks.gpu_graphs import Recorded

    driver, done = Driver(), []
    recorded = Recorded(driver, 7, lambda: driver.recording.append(lambda: done.append(1)))
    assert done == [] and driver.recording is None
    recorded.launch()
    recorded.launch()
    assert done == [1, 1]

    def refuses():
        raise NotImplementedError("no product within a recording")

    with pytest.raises(NotImplementedError, match="no product"):
        Recorded(driver, 7, refuses)
    assert driver.recording is None
    driver.cuGraphInstantiate = lambda graph, flags: (999, None)
    with pytest.raises(RuntimeError, match="999"):
        Recorded(driver, 7, lambda: None)


def test_the_summary_holds_ratios_against_the_targets():
    from benchmarks.gpu_summary import summary

    entries = [
        {"H": 32, "forward": 1.0, "training": 2.0, "cudnn_forward": ratio, "cudnn_training": 2 * ratio}
        for ratio in (2.0, 8.0)
    ]
    text = summary({"layers": [*entries, {"H": 64, "failed": "lost"}], "sections": {"fit": "no time was left"}})
    assert "fit: no time was left" in text and "H=32" in text and "H=64" not in text
    assert "forward  4.00 and  2.00" in text and "aimed at 2.0" in text
