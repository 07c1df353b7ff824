"""Models that stream what another model streams."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import requests
from model_files import COUNT, SQUARES, write_model
from running_server import PREDICTION, RunningServer, only_file, predict_request, tensor
from waiting import wait_until

from pyserving.api.recorded import MAX_PIECES
from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.wire.tensor_proto import read_tensor
from pyserving.wire.tfrecord import frame_record, read_records

Start = Callable[..., RunningServer]


@pytest.fixture(params=list(PythonModels)[1:], ids=["threads", "process"])
def server(request: pytest.FixtureRequest, tmp_path: Path, start: Start) -> RunningServer:
    configs = [write_model(tmp_path, "count", COUNT), write_model(tmp_path, "squares", SQUARES)]
    server = start(configs, python_options=PythonOptions(request.param))
    server.settled("count")
    server.settled("squares")
    return server


def number(value: int) -> messages.TensorProto:
    return tensor(value, dtype="DT_INT64", shape=[])


def test_all_pieces(server: RunningServer) -> None:
    answers = server.streamed(predict_request("squares", "", to=number(200)))
    assert [answer.outputs["square"].int64_val[0] for answer in answers] == [value**2 for value in range(200)]
    with pytest.raises(grpc.RpcError) as raised:
        list(server.streamed(predict_request("squares", "", to=number(2000))))
    assert raised.value.details() == "model count, asked by squares: model code raised RuntimeError"


def test_pieces_put_together_or_left(server: RunningServer, tmp_path: Path) -> None:
    for signature, result in (("total", 4950), ("first", 0)):
        closed = tmp_path / "count" / "1" / "closed"
        closed.unlink(missing_ok=True)
        request = predict_request("squares", signature, to=number(100))
        answer = server.call(PREDICTION + "Predict", request, messages.PredictResponse)
        assert answer.outputs["output_0"].int64_val[0] == result
        wait_until(closed.exists)
        wait_until(lambda: not any(server.server.directory.serving.handles_out().values()))


@pytest.mark.parametrize(("signature", "name"), [("", "to"), ("forever", "start")])
def test_to_cancel_the_one_cancels_the_other(server: RunningServer, tmp_path: Path, signature: str, name: str) -> None:
    answers = server.streamed(predict_request("squares", signature, **{name: number(900)}))
    next(answers)
    answers.cancel()
    wait_until((tmp_path / "count" / "1" / "closed").exists)
    wait_until(lambda: not any(server.server.directory.serving.handles_out().values()))


def test_a_stop_ends_streams_after_the_grace_period(tmp_path: Path, start: Start) -> None:
    server = start(
        [write_model(tmp_path, "count", COUNT)], python_options=PythonOptions(PythonModels.ON), grace_period=0.2
    )
    server.settled("count")
    answers = server.streamed(predict_request("count", "forever", start=number(1)))
    next(answers)
    server.on_loop(server.server.stop())
    wait_until((tmp_path / "count" / "1" / "closed").exists)


def test_a_stream_is_logged(tmp_path: Path, start: Start) -> None:
    config = write_model(tmp_path, "count", COUNT)
    logging_config = messages.LoggingConfig(
        log_collector_config=messages.LogCollectorConfig(filename_prefix=str(tmp_path / "log" / "count")),
        sampling_config=messages.SamplingConfig(sampling_rate=1.0),
    )
    (tmp_path / "log").mkdir()
    options = PythonOptions(PythonModels.ON)
    server = start([replace(config, logging_config=logging_config)], python_options=options)
    server.settled("count")
    request = predict_request("count", "", to=number(3))
    answers = list(server.streamed(request))
    over_rest = requests.post(
        f"http://{server.server.ports.rest_address}/v1/models/count:predict",
        json={"inputs": {"to": 2}},
        headers={"Accept": "application/x-ndjson"},
        timeout=60,
    )
    assert len(over_rest.text.splitlines()) == 2
    server.stop()
    with only_file(tmp_path / "log").open("rb") as file:
        logs = [messages.PredictionLog.FromString(record).predict_streamed_log for record in read_records(file)]
    assert list(logs[0].request) == [request]
    assert list(logs[0].response) == answers
    assert [read_tensor(response.outputs["number"], "").item() for response in logs[1].response] == [0, 1]


def test_a_stream_is_warmed_up(tmp_path: Path, start: Start) -> None:
    config = write_model(tmp_path, "count", COUNT)
    request = predict_request("count", "", to=number(MAX_PIECES + 500))
    log = messages.PredictionLog(predict_streamed_log=messages.PredictStreamedLog(request=[request]))
    records = tmp_path / "count" / "1" / "assets.extra"
    records.mkdir()
    (records / "tf_serving_warmup_requests").write_bytes(frame_record(log.SerializeToString()))
    server = start([config], python_options=PythonOptions(PythonModels.ON))
    assert server.settled("count").state is State.AVAILABLE
    # As many pieces as are waited for were taken, then it was closed.
    wait_until((tmp_path / "count" / "1" / "closed").exists)
