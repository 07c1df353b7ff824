"""A new version is compared with what is expected of it before it is available, and the old one serves on."""

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from golden_requests import golden, predict_log, tensor_of, write_linear
from google.protobuf import text_format
from running_server import PREDICTION, RunningServer
from waiting import wait_until

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server.rollout_rules import check_rules
from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]
ON = PythonOptions(PythonModels.ON)


def options(text: str) -> messages.ModelOptions:
    return text_format.Parse(text, messages.ModelOptions(), descriptor_pool=messages.POOL)


def linear(base: Path, text: str = "") -> ModelConfig:
    return ModelConfig("m", str(base), options=options(text))


def predict(server: RunningServer, x: float, path: str = "m") -> float:
    (y,) = server.post(f"{path}:predict", {"instances": [x]})["predictions"]
    assert isinstance(y, float)
    return y


@contextmanager
def load(server: RunningServer) -> Iterator[list[float]]:
    """Asks again and again, over gRPC and REST in turn, and collects the answers less twice the number asked."""
    answers: list[float] = []
    stop = threading.Event()
    failures: list[BaseException] = []

    def ask() -> None:
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
        try:
            for number in itertools.count():
                if stop.is_set():
                    return
                x = float(number % 100)
                if number % 2:
                    request.inputs["x"].CopyFrom(tensor_of([x]))
                    response = server.call(PREDICTION + "Predict", request, messages.PredictResponse)
                    y = messages.TensorProto.FromString(response.outputs["y"].SerializeToString()).float_val[0]
                else:
                    y = predict(server, x)
                answers.append(y - 2 * x)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        wait_until(lambda: len(answers) > 2 or bool(failures))
        yield answers
        count = len(answers)
        wait_until(lambda: len(answers) > count + 10 or bool(failures))
    finally:
        stop.set()
        thread.join(60)
    assert failures == []


def ended(server: RunningServer, version: int) -> ServingError:
    """Why a version failed."""
    state = server.settled("m", version)
    assert state.state is State.END
    assert state.error is not None
    return state.error


def test_a_version_with_wrong_answers_is_refused_and_the_old_one_serves_on(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1, pyserving_golden_requests=golden(1, 2, 3))
    server = start([linear(base)], python_options=ON)
    assert server.settled("m").state is State.AVAILABLE
    with load(server) as answers:
        write_linear(base, 2, add=1.5, pyserving_golden_requests=golden(1, 2, 3))
        error = ended(server, 2)
        assert error.code is Code.FAILED_PRECONDITION
        path = base / "2" / "assets.extra" / "pyserving_golden_requests"
        assert error.message == (
            f"refused by its check of answers: 3 of 3 golden requests of {path} were not answered as expected; "
            "record 1: output y: element [0] is 3.5, expected 3.0"
        )
        write_linear(base, 3, add=1.0 + 1e-6, pyserving_golden_requests=golden(1, 2, 3))
        assert server.settled("m", 3).state is State.AVAILABLE
        wait_until(lambda: server.server.directory.serving.available("m") == [3])
    assert {round(answer, 3) for answer in answers} == {1.0}
    metrics = server.metrics()
    label = 'pyserving_gate_checks_total{model_name="m",check="answers",outcome="%s"}'
    assert metrics[label % "refused"] == 1
    assert metrics[label % "passed"] == 2


def test_golden_requests_and_tolerance_of_the_config(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    path = tmp_path / "golden"
    path.write_bytes(golden(1, 2))
    write_linear(base, 1, add=1.25)
    server = start(
        [linear(base, f'gate {{ golden_requests: "{path}" tolerance {{ absolute: 0.3 }} }}')], python_options=ON
    )
    assert server.settled("m", 1).state is State.AVAILABLE
    write_linear(base, 2, add=1.5)
    assert "2 of 2 golden requests" in ended(server, 2).message
    # The version's own tolerance is for its own golden requests alone.
    own = "tolerance { dtype: DT_FLOAT absolute: 10 }"
    write_linear(base, 3, add=1.5, pyserving_gate_pbtxt=own, pyserving_golden_requests=golden(1, add=9))
    assert str(path) in ended(server, 3).message
    write_linear(base, 4, add=1.2, pyserving_gate_pbtxt=own, pyserving_golden_requests=golden(1, add=9))
    assert server.settled("m", 4).state is State.AVAILABLE


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"pyserving_golden_requests": b""}, "holds no requests"),
        ({"pyserving_golden_requests": b"nonsense" * 4}, "Please verify your golden data is in TFRecord format."),
        ({"pyserving_golden_requests": predict_log([1.0], None)}, "record 1 has no answer that is expected"),
        ({"pyserving_golden_requests": golden(1), "pyserving_gate_pbtxt": "manual: true"}, "manual is for the server"),
        ({"pyserving_gate_pbtxt": "latency { median_ms: 5 }"}, "needs golden requests or warmup requests"),
        ({"pyserving_gate_pbtxt": "latency { median_ms: 0 }"}, "a median_ms above 0; got 0"),
    ],
)
def test_checks_that_cannot_be_made_refuse_the_version(
    start: Start, tmp_path: Path, files: dict[str, bytes | str], text: str
) -> None:
    write_linear(tmp_path / "m", 1, **files)
    server = start([linear(tmp_path / "m")], python_options=ON)
    assert text in ended(server, 1).message


def test_a_latency_budget(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    text = "gate { latency { median_ms: 300 runs: 3 } }"
    write_linear(base, 1, tf_serving_warmup_requests=golden(1, 2))
    server = start([linear(base, text)], python_options=ON)
    assert server.settled("m", 1).state is State.AVAILABLE
    write_linear(base, 2, seconds=0.35, tf_serving_warmup_requests=golden(1))
    told = r"refused by its check of latency: the median of 3 runs was (\S+) ms, and the latency budget is 300 ms"
    measured = re.fullmatch(told, ended(server, 2).message)
    assert measured
    assert float(measured[1]) >= 350
    write_linear(base, 3, seconds=0.35, pyserving_golden_requests=golden(1), pyserving_gate_pbtxt="")
    assert ended(server, 3).message.endswith("Invalid argument"), "an empty file says nothing, and that is an error"
    assert predict(server, 1) == 3


def test_a_shadow_of_live_traffic(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    text = "gate { shadow { requests: 20 max_disagreement: 0.1 timeout_seconds: 60 } }"
    write_linear(base, 1)
    server = start([linear(base, text)], python_options=ON)
    assert server.settled("m", 1).state is State.AVAILABLE, "there is nothing to compare the first one with"
    with load(server) as answers:
        write_linear(base, 2, add=2)
        error = ended(server, 2)
        assert error.message == (
            "refused by its check of shadow: 3 of 3 answers to live requests were not those of version 1; "
            f"{error.message.rpartition('; ')[2]}"
        )
        assert "output y: element [0] is " in error.message
        write_linear(base, 3)
        assert server.settled("m", 3).state is State.AVAILABLE
        wait_until(lambda: server.server.directory.serving.available("m") == [3])
    assert set(answers) == {1.0}
    metrics = server.metrics()
    assert metrics['pyserving_gate_checks_total{model_name="m",check="shadow",outcome="refused"}'] == 1
    assert metrics['pyserving_gate_checks_total{model_name="m",check="shadow",outcome="passed"}'] == 1


def test_a_shadow_without_traffic_ends_at_its_timeout(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1)
    server = start([linear(base, "gate { shadow { requests: 5 timeout_seconds: 0.05 } }")], python_options=ON)
    server.settled("m", 1)
    write_linear(base, 2)
    assert "only 0 of 5 requests to compare came within 0.05 s" in ended(server, 2).message


def test_a_version_in_the_shadow_makes_way_for_the_next_one_and_for_a_stop(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1)
    server = start([linear(base, "gate { shadow { requests: 5 } }")], python_options=ON)
    server.settled("m", 1)
    monitor = server.server.directory.monitor

    def state(version: int) -> State | None:
        seen = monitor.state(ServableId("m", version))
        return seen.state if seen else None

    write_linear(base, 2)
    wait_until(lambda: len(server.server._front._taps) == 1)
    assert state(2) is State.LOADING
    write_linear(base, 3)
    wait_until(lambda: state(2) is State.END)
    assert monitor.state(ServableId("m", 2)).error is None
    assert 2 not in server.server.directory.gate_reports.get("m", {})
    wait_until(lambda: state(3) is State.LOADING)
    server.stop()
    assert (state(1), state(3)) == (State.END, State.END)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gate { golden_requests: 'x' }", "Expected an absolute path of golden_requests; got x"),
        ("gate { latency { median_ms: -1 } }", "Expected a latency budget with a median_ms above 0; got -1"),
        ("gate { latency { median_ms: 1 runs: -1 } }", "Expected a latency budget with 1 run or more; got -1"),
        ("gate { shadow { } }", "Expected shadow to compare 1 request or more; got 0"),
        ("gate { shadow { requests: 1 max_disagreement: 2 } }", "Expected max_disagreement to be from 0 to 1; got 2"),
        ("gate { shadow { requests: 1 timeout_seconds: -1 } }", "Expected a timeout_seconds above 0; got -1"),
        ("gate { tolerance { absolute: -1 } }", "Expected a tolerance of 0 or more; got relative: 0 absolute: -1"),
        ("traffic { split { } }", "Expected weights above 0 in split; got 0"),
        (
            "traffic { split { version: 1 weight: 1 } split { version: 1 weight: 2 } }",
            "Expected each target of split once; got version 1 more than once",
        ),
        ("traffic { shadow { fraction: 1 } }", "Expected shadow to name a version or a label"),
        ("traffic { shadow { version: 1 fraction: 2 } }", "Expected the fraction of shadow to be from 0 to 1; got 2"),
        ("traffic { default_version: -1 }", "Expected a default_version above 0; got -1"),
    ],
)
def test_options_that_cannot_be_are_refused(start: Start, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        check_rules([ModelConfig("m", "/m", options=options(text))])
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, f"Model m: {message}")
