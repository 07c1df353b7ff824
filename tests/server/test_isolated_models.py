"""Python models in processes of their own: what they do to themselves hurts nobody else."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from model_files import COUNT, PIPELINE, SCALE, write_model
from running_server import PREDICTION, RunningServer, predict_request, tensor
from waiting import wait_until

from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]
ON = PythonOptions(PythonModels.ON)
PROCESS = PythonOptions(PythonModels.PROCESS)

FRAGILE = """
    import os, signal, time
    import numpy as np
    from pyserving import Model, Tensor, signature

    class Fragile(Model):
        isolation = "process"
        time_limit = {limit}
        memory_limit = 500 * 1024**2
        concurrency = 2

        def load(self, folder):
            self.kept = []

        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return x + os.getpid()

        @signature
        def crash(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            signal.raise_signal(signal.SIGSEGV)  # on this thread, as a wrong pointer does

        @signature
        def hang(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            time.sleep(3600)

        @signature
        def leak(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            self.kept.append(np.zeros((128, 1024, 1024), np.uint8))
            return x
    """


def ask(server: RunningServer, name: str, signature: str = "", *values: float) -> Any:
    request = predict_request(name, signature, x=tensor(*(values or (0.0,))))
    return server.call(PREDICTION + "Predict", request, messages.PredictResponse)


def failure(server: RunningServer, name: str, signature: str) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        ask(server, name, signature)
    return raised.value.code(), raised.value.details()


def pid(server: RunningServer) -> int:
    return int(ask(server, "fragile").outputs["output_0"].float_val[0])


def answers_again(server: RunningServer, old: int) -> bool:
    try:
        return pid(server) != old
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False


def test_answers_as_in_the_server(tmp_path: Path, start: Start, model_dir: Callable[[str], Path]) -> None:
    configs = [write_model(tmp_path, "scale", SCALE), write_model(tmp_path, "count", COUNT)]
    configs += [write_model(tmp_path, "pipeline", PIPELINE)]
    configs += [ModelConfig("half_plus_two", str(model_dir("half_plus_two_tf2")))]
    server = start(configs, python_options=PROCESS)
    for config in configs:
        assert server.settled(config.name).state is State.AVAILABLE
    assert server.post("scale:predict", {"inputs": {"x": [1, 2], "add": 3}}) == {"outputs": [5.0, 7.0]}
    assert list(ask(server, "scale", "", 1.0).outputs["output_0"].float_val) == [3.0]
    answer = server.post("scale:predict", {"signature_name": "describe", "instances": ["é", "ab"]})
    assert answer == {"predictions": [{"upper": "É", "size": 1}, {"upper": "AB", "size": 2}]}
    assert failure(server, "scale", "breaks") == (grpc.StatusCode.INTERNAL, "model code raised KeyError")
    assert server.post("pipeline:predict", {"instances": ["1.0", "5"]}) == {"predictions": [2.5, 4.5]}
    wait_until(lambda: not any(server.server.directory.serving.handles_out().values()))


def test_streams_and_is_cancelled(tmp_path: Path, start: Start) -> None:
    server = start([write_model(tmp_path, "count", COUNT)], python_options=PROCESS)
    server.settled("count")
    request = predict_request("count", "", to=tensor(300, dtype="DT_INT64", shape=[]))
    answers = list(server.streamed(request))
    assert [answer.outputs["number"].int64_val[0] for answer in answers] == list(range(300))
    for signature, name in (("", "to"), ("forever", "start")):
        (tmp_path / "count" / "1" / "closed").unlink(missing_ok=True)
        request = predict_request("count", signature, **{name: tensor(900, dtype="DT_INT64", shape=[])})
        answers = server.streamed(request)
        next(answers)
        answers.cancel()
        wait_until((tmp_path / "count" / "1" / "closed").exists)
        wait_until(lambda: not any(server.server.directory.serving.handles_out().values()))


def test_a_crash_and_a_hang_cost_the_process_its_life(tmp_path: Path, start: Start) -> None:
    # The limit is for each run: a busy machine needs some time for the others.
    configs = [write_model(tmp_path, "fragile", FRAGILE.format(limit=4.0)), write_model(tmp_path, "scale", SCALE)]
    server = start(configs, python_options=ON)
    assert server.settled("fragile").state is State.AVAILABLE
    server.settled("scale")
    first = pid(server)
    assert first != os.getpid()
    code, message = failure(server, "fragile", "crash")
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "SIGSEGV" in message
    assert list(ask(server, "scale", "", 1.0).outputs["output_0"].float_val) == [3.0]
    wait_until(lambda: answers_again(server, first))
    second = pid(server)
    code, message = failure(server, "fragile", "hang")
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "time limit of 4 s" in message
    wait_until(lambda: answers_again(server, second))
    third = pid(server)
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(third, 0)


def test_a_leak_ends_at_the_memory_limit(tmp_path: Path, start: Start) -> None:
    server = start([write_model(tmp_path, "fragile", FRAGILE.format(limit=60.0))], python_options=ON)
    server.settled("fragile")
    first = pid(server)
    for _ in range(3):
        ask(server, "fragile", "leak")
    assert failure(server, "fragile", "leak") == (grpc.StatusCode.RESOURCE_EXHAUSTED, "model code ran out of memory")
    wait_until(lambda: answers_again(server, first))
    ask(server, "fragile", "leak")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import time\nclass M:\n    load_time_limit = 1.0\ntime.sleep(3600)", "was not loaded within 1 s"),
        ("import os\nos._exit(3)", "ended (exit code 3)"),
    ],
)
def test_what_does_not_load_says_why(tmp_path: Path, start: Start, code: str, message: str) -> None:
    server = start([write_model(tmp_path, "bad", code)], python_options=PROCESS)
    state = server.settled("bad")
    assert state.state is State.END
    assert message in state.error.message
