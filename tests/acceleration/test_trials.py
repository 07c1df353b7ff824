"""Real engines against TensorFlow: what agrees, what does not, and processes that end before their time."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from pyserving.acceleration import trial
from pyserving.acceleration.engines import ENGINES, CompiledSignature
from pyserving.acceleration.trial import Trial
from pyserving.acceleration.trial_process import Job
from pyserving.acceleration.trials import Finding, TrialFailed, TrialProcess
from pyserving.acceleration.verdict import Verdict
from pyserving.platforms.model import Array
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions


@pytest.fixture(scope="module")
def ops(acceleration_folder: Path) -> TensorFlowModel:
    return TensorFlowModel(str(acceleration_folder / "ops" / "1"), SessionOptions())


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_TIMING_SECONDS", 0.0)


def job(folder: Path, cache: Path, *signatures: str, engine: str = "openvino") -> Job:
    return Job(engine, str(folder / "ops" / "1"), ("serve",), signatures, 1, str(cache))


class Changed:
    """A ``CompiledSignature`` whose answers are another one's, and not quite."""

    def __init__(self, compiled: CompiledSignature, change: type) -> None:
        self._compiled = compiled
        self._change = change

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        return [array.astype(self._change).astype(array.dtype) for array in self._compiled.run(inputs, outputs)]

    def close(self) -> None:
        self._compiled.close()


def tried(model: TensorFlowModel, folder: Path, scratch: Path, name: str, change: type | None = None) -> Verdict:
    signature = model.signatures[name]
    engine = ENGINES["openvino"]
    engine.compile(str(folder / "ops" / "1"), ("serve",), signature, str(scratch))
    compiled: CompiledSignature = engine.open(str(scratch), signature, 1)
    if change is not None:
        compiled = Changed(compiled, change)
    return Trial(model, signature, "openvino", compiled, []).verdict()


@pytest.mark.parametrize("name", ["softmax", "argmax", "scaled"])
def test_openvino_agrees(ops: TensorFlowModel, acceleration_folder: Path, tmp_path: Path, name: str) -> None:
    verdict = tried(ops, acceleration_folder, tmp_path, name)
    assert not verdict.refusal
    assert verdict.gate is not None
    assert all(limits == (-1e4, 1e4) for limits in verdict.gate.ranges)


def test_half_precision_is_refused(ops: TensorFlowModel, acceleration_folder: Path, tmp_path: Path) -> None:
    assert "answers differ" in tried(ops, acceleration_folder, tmp_path, "softmax", np.float16).refusal


@pytest.mark.parametrize("name", ["largest_integer", "divided_by_3"])
def test_integers_that_openvino_computes_in_single_precision_are_refused(
    ops: TensorFlowModel, acceleration_folder: Path, tmp_path: Path, name: str
) -> None:
    refusal = tried(ops, acceleration_folder, tmp_path, name).refusal
    assert "answers differ" in refusal
    assert "largest integers" in refusal


def test_indices_are_let_through_that_the_table_has(
    ops: TensorFlowModel, acceleration_folder: Path, tmp_path: Path
) -> None:
    gate = tried(ops, acceleration_folder, tmp_path, "embedded").gate
    assert gate is not None
    assert list(gate.ranges) == [(0, 49)]


def test_a_process_tells_each_verdict_and_the_next_finds_them(acceleration_folder: Path, tmp_path: Path) -> None:
    names = ("softmax", "divided", "cubic")
    found = of_process(job(acceleration_folder, tmp_path, *names))
    assert not found["softmax"].verdict.refusal
    assert "divides integers" in found["divided"].verdict.refusal
    assert "cannot be compiled" in found["cubic"].verdict.refusal
    assert not any(finding.cached for finding in found.values())
    assert all(finding.cached for finding in of_process(job(acceleration_folder, tmp_path, *names)).values())
    weights = next(Path(found["softmax"].artefact).iterdir())
    weights.write_bytes(weights.read_bytes()[:10])
    healed = of_process(job(acceleration_folder, tmp_path, "softmax"))["softmax"]
    assert not healed.cached
    assert not healed.verdict.refusal


def of_process(wanted: Job) -> dict[str, Finding]:
    return {finding.signature: finding for finding in TrialProcess(wanted).run({})}


def test_of_two_processes_one_compiles(acceleration_folder: Path, tmp_path: Path) -> None:
    found: list[Finding] = []
    threads = [
        threading.Thread(
            target=lambda: found.extend(TrialProcess(job(acceleration_folder, tmp_path, "softmax")).run({}))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(finding.cached for finding in found) == [False, True]


def test_a_full_disk_fails_the_trial_and_leaves_nothing(acceleration_folder: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for it."""
    code = (
        "import sys; from pathlib import Path; from pyserving.acceleration.trials import *\n"
        "from pyserving.acceleration.trial_process import Job\n"
        "job = Job('openvino', sys.argv[1], ('serve',), ('embedded',), 1, sys.argv[2])\n"
        "try: TrialProcess(job).run({})\n"
        "except TrialFailed as error: print('failed', error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, acceleration_folder / "ops" / "1", tmp_path],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)),
    )
    assert ended.stdout.startswith("failed"), ended
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_made_fails_the_trial(acceleration_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrialFailed, match=r"Not a directory|File exists"):
        TrialProcess(job(acceleration_folder, tmp_path / "file" / "cache", "softmax")).run({})


@pytest.mark.parametrize("free", [0, 8 << 20])
def test_no_memory_fails_the_trial(
    acceleration_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr("pyserving.acceleration.trials.free_memory", lambda: free)
    with pytest.raises(TrialFailed):
        TrialProcess(job(acceleration_folder, tmp_path, "softmax")).run({})
    assert not list(tmp_path.glob(".new-*"))


@pytest.mark.parametrize("how", ["killed", "cancelled"])
def test_a_process_that_is_ended_leaves_nothing(
    acceleration_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    cache = tmp_path / "cache"
    process = TrialProcess(job(acceleration_folder, cache, "softmax", "argmax", engine="openvino"))
    errors: list[TrialFailed] = []

    def run() -> None:
        try:
            process.run({})
        except TrialFailed as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not list(cache.glob(".new-*")):
        assert thread.is_alive()
        time.sleep(0.01)
    assert process._process is not None
    pid = process._process.pid
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
    else:
        process.cancel()
    thread.join()
    assert ("signal 9" if how == "killed" else "it was cancelled") in str(errors[0])
    assert list(temporary.iterdir()) == []
    assert not list(cache.glob(".new-*"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
