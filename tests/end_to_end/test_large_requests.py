"""What requests of 100 MB cost in memory: the peak of a server's RSS above what it was before."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from serving import Serving

from pyserving.platforms.dtypes import DType
from pyserving.protos import messages

SIZE = 100_000_000
HELD = 3
"""How many times the size of the request the server may need at a time."""

pytestmark = [pytest.mark.soak, pytest.mark.tensorflow]


@pytest.fixture
def server(models_folder: Path) -> Iterator[Serving]:
    """A new one each time: freed memory that a process keeps would be of use to its next large request."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's /proc to measure memory")
    server = Serving(str(models_folder / "reductions")).wait_until_ready()
    assert server.post_json("/v1/models/reductions:predict", {"instances": [[1, 2]]}) == (200, {"predictions": [3.0]})
    yield server
    server.stop()


def status_mb(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise AssertionError(f"no {field}")


def peak_mb(pid: int, work: Callable[[], object]) -> float:
    """By how much RSS rises at most while ``work`` is done, in MB."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the high-water mark is now what RSS is
    before = status_mb(pid, "VmRSS")
    work()
    return status_mb(pid, "VmHWM") - before


def digits(decimals: int) -> bytes:
    """A list of floats as JSON, of SIZE bytes at most."""
    some = np.random.default_rng(0).random(10_000).round(decimals)
    text = b",".join(b"%.*f" % (decimals, value) for value in some.tolist())
    return b"[" + b",".join([text] * (SIZE // (len(text) + 1))) + b"]"


def integers() -> bytes:
    some = np.random.default_rng(0).integers(0, 256, 10_000)
    text = b",".join(b"%d" % value for value in some.tolist())
    return b"[" + b",".join([text] * (SIZE // (len(text) + 1))) + b"]"


def rest_body(form: str) -> bytes:
    match form:
        case "rows of floats":
            return b'{"instances":[' + digits(7) + b"]}"
        case "rows of integers":
            return b'{"instances":[' + integers() + b"]}"
        case "objects":
            return b'{"instances":[{"x":' + digits(7) + b"}]}"
        case "columns":
            return b'{"inputs":{"x":[' + digits(7) + b"]}}"
        case _:
            text = base64.b64encode(np.random.default_rng(0).bytes(SIZE * 3 // 4))
            return b'{"signature_name":"lengths","instances":[{"b64":"' + text + b'"}]}'


@pytest.mark.parametrize("form", ["rows of floats", "rows of integers", "objects", "columns", "base64"])
def test_json(server: Serving, form: str) -> None:
    body = rest_body(form)
    answers: list[tuple[int, Any]] = []
    path = "/v1/models/reductions:predict"
    peak = peak_mb(server.process.pid, lambda: answers.append(server.post(path, body)))
    print(f"{form}: {peak:.0f} MB for {len(body) / 1e6:.0f} MB")
    assert answers[0][0] == 200
    assert peak < HELD * len(body) / 1e6


def grpc_peak(server: Serving, signature: str, name: str, **fields: Any) -> tuple[float, Any, int]:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="reductions", signature_name=signature))
    request.inputs[name].CopyFrom(messages.TensorProto(**fields))
    data = request.SerializeToString()
    answers = []
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}", options) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        peak = peak_mb(server.process.pid, lambda: answers.append(call(data, timeout=60)))
    return peak, messages.PredictResponse.FromString(answers[0]), len(data)


def shape(*sizes: int) -> messages.TensorShapeProto:
    return messages.TensorShapeProto(dim=[messages.TensorShapeProto.Dim(size=size) for size in sizes])


@pytest.mark.parametrize("field", ["tensor_content", "float_val", "string_val"])
def test_grpc(server: Serving, field: str) -> None:
    values = np.random.default_rng(0).random((1, SIZE // 4), np.float32)
    if field == "string_val":
        fields = {"dtype": DType.STRING, "tensor_shape": shape(1), "string_val": [values.tobytes()]}
        peak, answer, size = grpc_peak(server, "lengths", "text", **fields)
        assert answer.outputs["length"].int_val == [SIZE]
    else:
        content = values.tobytes() if field == "tensor_content" else values.ravel().tolist()
        fields = {"dtype": DType.FLOAT, "tensor_shape": shape(*values.shape), field: content}
        peak, answer, size = grpc_peak(server, "serving_default", "x", **fields)
        assert answer.outputs["total"].float_val[0] == pytest.approx(values.sum(dtype=np.float64), rel=1e-3)
    print(f"{field}: {peak:.0f} MB for {size / 1e6:.0f} MB")
    assert peak < HELD * size / 1e6


def test_grpc_answers(server: Serving) -> None:
    """Request and answer are of that size; both are counted."""
    values = np.random.default_rng(0).random((1, SIZE // 4), np.float32)
    fields = {"dtype": DType.FLOAT, "tensor_shape": shape(*values.shape), "tensor_content": values.tobytes()}
    peak, answer, size = grpc_peak(server, "copy", "x", **fields)
    assert len(answer.outputs["y"].float_val) == values.size
    print(f"answered: {peak:.0f} MB for {size / 1e6:.0f} MB")
    assert peak < HELD * 2 * size / 1e6
