"""Recorded requests are replayed before a version is available; what is wrong with them keeps it from loading."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from running_server import RunningServer, example, examples, predict_request, tensor
from waiting import wait_until

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle
from pyserving.core.resources import Resources
from pyserving.core.servable import ServableId
from pyserving.core.state import State
from pyserving.protos import messages
from pyserving.server.warmup import MAX_RECORDS, WarmedLoader
from pyserving.sources.model_config import ModelConfig
from pyserving.wire.tfrecord import frame_record

Start = Callable[..., RunningServer]
ModelDir = Callable[[str], Path]
Copy = Callable[..., Path]


def predict_log(signature: str = "", **inputs: messages.TensorProto) -> messages.PredictionLog:
    return messages.PredictionLog(predict_log=messages.PredictLog(request=predict_request("any", signature, **inputs)))


PREDICT = predict_log(x=tensor(4.0, shape=(1, 1)))


def spec(signature: str) -> messages.ModelSpec:
    return messages.ModelSpec(name="any", signature_name=signature)


def file_of(*logs: messages.PredictionLog) -> bytes:
    return b"".join(frame_record(log.SerializeToString()) for log in logs)


@pytest.fixture
def copy(model_dir: ModelDir, tmp_path: Path) -> Copy:
    """``copy("counter", warmup)``: the base path of a copy of that model whose version has this warmup file."""

    def copy_one(name: str, warmup: bytes, version: str | None = None) -> Path:
        (source,) = model_dir(name).iterdir()
        folder = tmp_path / name / (version or source.name)
        shutil.copytree(source, folder)
        (folder / "assets.extra").mkdir(exist_ok=True)
        (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(warmup)
        return tmp_path / name

    return copy_one


def count_of(server: RunningServer) -> int:
    """How often ``add`` of the counter has run: it adds ``by`` and 1."""
    (count,) = server.post("m:predict", {"instances": [0.0]})["predictions"]
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("iterations", [1, 3])
def test_each_record_is_replayed_so_often_before_the_version_is_available(
    copy: Copy, start: Start, iterations: int
) -> None:
    base = copy("counter", file_of(*[predict_log("add", by=tensor(0, dtype="DT_INT64"))] * 4))
    server = start([ModelConfig("m", str(base))], warmup_iterations=iterations)
    assert server.settled("m").state is State.AVAILABLE
    assert count_of(server) == 4 * iterations


def test_without_warmup_nothing_is_read(copy: Copy, start: Start) -> None:
    server = start([ModelConfig("m", str(copy("counter", b"no TFRecord")))], warmup_iterations=0)
    assert server.settled("m").state is State.AVAILABLE
    assert count_of(server) == 0


def test_all_kinds_of_logs_are_replayed(copy: Copy, start: Start) -> None:
    given = examples(example(x=2.0), example(x=4.0, x2=1.0))
    tasks = [
        messages.InferenceTask(model_spec=spec("classify_x_to_y"), method_name="tensorflow/serving/classify"),
        messages.InferenceTask(model_spec=spec("regress_x_to_y"), method_name="tensorflow/serving/regress"),
    ]
    logs = [
        PREDICT,
        messages.PredictionLog(
            classify_log=messages.ClassifyLog(
                request=messages.ClassificationRequest(model_spec=spec("classify_x_to_y"), input=given)
            )
        ),
        messages.PredictionLog(
            regress_log=messages.RegressLog(
                request=messages.RegressionRequest(model_spec=spec("regress_x_to_y"), input=given)
            )
        ),
        messages.PredictionLog(
            multi_inference_log=messages.MultiInferenceLog(
                request=messages.MultiInferenceRequest(tasks=tasks, input=given)
            )
        ),
        messages.PredictionLog(predict_streamed_log=messages.PredictStreamedLog()),
        messages.PredictionLog(),
    ]
    base = copy("half_plus_two", file_of(*logs))
    server = start([ModelConfig("m", str(base))])
    assert server.settled("m").state is State.AVAILABLE
    metrics = server.metrics()
    path = base / "00000123"
    label = f'model_path="{path}",status="OK"'
    assert metrics[f":tensorflow:serving:model_warmup_latency_count{{{label}}}"] == 1
    for api, runs in (("Predict", 1), ("Classify", 1), ("Regress", 1), ("MultiInference", 2)):
        name = f':tensorflow:serving:runtime_latency_count{{model_name="m",API="{api}",runtime="TF1"}}'
        assert metrics[name] == runs
    assert not any(name.startswith(":tensorflow:serving:request_count{") for name in metrics), "no client asked"


def test_a_file_without_records_is_no_error(copy: Copy, start: Start) -> None:
    assert start([ModelConfig("m", str(copy("counter", b"")))]).settled("m").state is State.AVAILABLE


def test_as_many_records_as_there_may_be(copy: Copy, start: Start) -> None:
    base = copy("counter", file_of(*[predict_log("add", by=tensor(0, dtype="DT_INT64"))] * MAX_RECORDS))
    server = start([ModelConfig("m", str(base))])
    assert server.settled("m").state is State.AVAILABLE
    assert count_of(server) == MAX_RECORDS


GOOD = file_of(PREDICT)
SESSION_RUN = messages.PredictionLog(session_run_log=messages.SessionRunLog())
NO_TASK = messages.PredictionLog(classify_log=messages.ClassifyLog(request=messages.ClassificationRequest()))
VERIFY = ". Please verify your warmup data is in TFRecord format."


@pytest.mark.parametrize(
    ("warmup", "code", "text"),
    [
        (GOOD + GOOD[:-1], Code.DATA_LOSS, f"PATH: truncated record at {len(GOOD)}{VERIFY}"),
        (GOOD + GOOD[:5], Code.DATA_LOSS, f"PATH: truncated record at {len(GOOD)}{VERIFY}"),
        (GOOD + GOOD[:-1] + b"\0", Code.DATA_LOSS, f"PATH: corrupted record at {len(GOOD) + 12}{VERIFY}"),
        (b"{}" * 10, Code.DATA_LOSS, f"PATH: corrupted record at 0 (Is this even a TFRecord file?){VERIFY}"),
        (
            GOOD + frame_record(b"\xff\xff\xff"),
            Code.INVALID_ARGUMENT,
            "Failed to parse warmup record: record 2, 3 bytes, from PATH",
        ),
        (
            GOOD + file_of(predict_log("unknown", x=tensor(1.0))),
            Code.FAILED_PRECONDITION,
            'Warmup record 2 of PATH failed: Serving signature key "unknown" not found.',
        ),
        (
            file_of(predict_log()),
            Code.INVALID_ARGUMENT,
            "Warmup record 1 of PATH failed: input size does not match signature: 0!=1 len({}) != len({x}). "
            "Sent extra: {}. Missing but required: {x}.",
        ),
        (
            file_of(predict_log(x=tensor(1, dtype="DT_INT64"))),
            Code.INVALID_ARGUMENT,
            "Warmup record 1 of PATH failed: ",
        ),
        (GOOD * 2 + file_of(NO_TASK), Code.INVALID_ARGUMENT, "Warmup record 3 of PATH failed: Input is empty."),
        (
            file_of(SESSION_RUN),
            Code.UNIMPLEMENTED,
            "Warmup record 1 of PATH failed: Unsupported log_type for warmup: 5",
        ),
        (
            file_of(messages.PredictionLog()) * 1001,
            Code.INVALID_ARGUMENT,
            "Number of warmup records exceeds the maximum (1000) at PATH",
        ),
    ],
    ids=[
        "body cut off",
        "header cut off",
        "wrong checksum",
        "no TFRecord",
        "no PredictionLog",
        "unknown signature",
        "no input",
        "wrong dtype",
        "no examples",
        "session run",
        "1001 records",
    ],
)
def test_a_record_that_fails_makes_the_load_fail(
    copy: Copy, start: Start, warmup: bytes, code: Code, text: str
) -> None:
    base = copy("half_plus_two", warmup)
    state = start([ModelConfig("m", str(base))]).settled("m")
    assert state.state is State.END
    assert state.error is not None
    path = base / "00000123" / "assets.extra" / "tf_serving_warmup_requests"
    expected = text.replace("PATH", str(path))
    assert state.error.code is code
    assert state.error.message.startswith(expected)
    assert state.error.message == expected or text.endswith("failed: "), "the whole text"


def test_a_file_that_cannot_be_opened_makes_the_load_fail(copy: Copy, start: Start) -> None:
    base = copy("half_plus_two", b"")
    file = base / "00000123" / "assets.extra" / "tf_serving_warmup_requests"
    file.unlink()
    file.mkdir()
    state = start([ModelConfig("m", str(base))]).settled("m")
    assert state.error is not None
    assert str(state.error) == f"FAILED_PRECONDITION: {file}; Is a directory"


def test_the_older_version_serves_on_when_the_new_one_cannot_be_warmed_up(copy: Copy, start: Start) -> None:
    base = copy("half_plus_two", GOOD, "1")
    server = start([ModelConfig("m", str(base))])
    assert server.settled("m", 1).state is State.AVAILABLE
    staged = copy("half_plus_two", b"broken", ".2")
    os.rename(staged / ".2", base / "2")
    assert server.settled("m", 2).state is State.END
    assert server.post("m:predict", {"instances": [[2.0]]}) == {"predictions": [[3.0]]}
    labels = f'model_path="{base / "2"}",status="DATA_LOSS: '
    assert any(
        name.startswith(":tensorflow:serving:model_warmup_latency") and labels in name for name in server.metrics()
    )


class FakeLoader:
    def __init__(self) -> None:
        self.did: list[str] = []

    def estimate_resources(self) -> Resources:
        return Resources(7)

    def load(self) -> object:
        self.did.append("load")
        return self

    def unload(self) -> None:
        self.did.append("unload")


class FakeWarmup:
    """Leaves a run behind that goes on after its request was answered."""

    def __init__(self, error: Exception | None) -> None:
        self.run_may_end = Event()
        self._error = error

    def run(self, folder: str, handle: ServableHandle) -> None:
        assert folder == "/m/1"
        shared = handle.share()

        def end() -> None:
            self.run_may_end.wait()
            shared.release()

        Thread(target=end, daemon=True).start()
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, ServingError(Code.INTERNAL, "cold"), RuntimeError("bug")])
def test_nothing_is_unloaded_or_handed_over_while_a_run_goes_on(error: Exception | None) -> None:
    inner, warmup = FakeLoader(), FakeWarmup(error)
    loader = WarmedLoader(inner, ServableId("m", 1), "/m/1", warmup)  # type: ignore[arg-type]
    outcome: list[Any] = []

    def load() -> None:
        try:
            outcome.append(loader.load())
        except Exception as caught:
            outcome.append(caught)

    thread = Thread(target=load, daemon=True)
    thread.start()
    wait_until(lambda: bool(inner.did))
    thread.join(0.05)
    assert thread.is_alive()
    assert inner.did == ["load"]
    warmup.run_may_end.set()
    thread.join(30)
    assert outcome == [inner if error is None else error]
    assert inner.did == (["load"] if error is None else ["load", "unload"])


def test_a_server_that_stops_does_not_go_on_with_a_warmup(copy: Copy) -> None:
    """This one would take hours."""
    base = copy("counter", file_of(predict_log("add", by=tensor(0, dtype="DT_INT64"))))
    server = RunningServer([ModelConfig("m", str(base))], warmup_iterations=1 << 30, grace_period=1e6)
    while not any(name.startswith(":tensorflow:serving:runtime_latency_count") for name in server.metrics()):
        assert all(state.error is None for state in server.server.directory.monitor.states("m"))
    server.stop()
    (state,) = server.server.directory.monitor.states("m")
    assert state.error is not None
    assert state.error.message.endswith("failed: the server is stopping")
