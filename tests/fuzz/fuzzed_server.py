"""A whole server in this process, whose connections get their bytes from memory: sockets would cost more."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mutation import mutate

from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server.server import Server
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig
from pyserving.transport.loop import new_event_loop

HANG_SECONDS = 20.0

MODEL = """
import numpy as np
from pyserving import Model, Tensor


class Scale(Model):
    def load(self, folder):
        pass

    def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
        return x * 2
"""
TABLE = "key,value,text\n1,1.5,a\n2,2.5,b\n"


class Transport(asyncio.Transport):
    """Takes all that is written."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self._address = address

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._address if name == "peername" else default

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


class _Errors(logging.Handler):
    """Keeps what is logged as an error: a bug, for no client can cause one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class FuzzedServer:
    """Serves a table and a Python model; ``HTTP1`` and ``HTTP2`` are the places of its listeners."""

    HTTP2, HTTP1 = 0, 1

    def __init__(self, folder: Path) -> None:
        for name, file, text in (("scale", "model.py", MODEL), ("table", "table.csv", TABLE)):
            (folder / name / "1").mkdir(parents=True)
            (folder / name / "1" / file).write_text(text)
        self.loop = new_event_loop()
        self.errors = _Errors()
        logging.getLogger("pyserving").addHandler(self.errors)
        self.loop.set_exception_handler(lambda _, context: self.errors.found.append(repr(context)))
        self.server: Server = self.loop.run_until_complete(self._start(folder))

    async def _start(self, folder: Path) -> Server:
        settings = Settings(
            models=[ModelConfig(name, str(folder / name)) for name in ("scale", "table")],
            host="127.0.0.1",
            rest_port=0,
            grpc_port=0,
            poll_wait=0,
            python_options=PythonOptions(PythonModels.ON),
            session_service=True,
            open_inference_protocol=True,
        )
        server = Server(settings)
        await server.start()
        await server.catalog.wait_until_settled()
        return server

    def stop(self) -> None:
        self.loop.run_until_complete(self.server.stop())
        logging.getLogger("pyserving").removeHandler(self.errors)
        self.loop.close()

    def fuzz(self, target: "Target", count: int, seed: int) -> dict[str, int]:
        """Sends so many damaged inputs; how often each kind of answer came. Raises AssertionError with the input."""
        return self.loop.run_until_complete(self._fuzz(target, count, seed))

    async def _fuzz(self, target: "Target", count: int, seed: int) -> dict[str, int]:
        chance = random.Random(seed)
        outcomes: dict[str, int] = {}
        for _ in range(count):
            data = mutate(chance, target.seeds, target.tokens)
            outcome = await self.send(target, data, chance)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return outcomes

    async def send(self, target: "Target", data: bytes, chance: random.Random) -> str:
        sent = target.frame(data)
        transport = Transport(("192.0.2.1", 1))
        connection = self.server._front._listeners[target.listener]._make()
        connection.connection_made(transport)
        try:
            cuts = sorted(chance.randrange(len(sent) + 1) for _ in range(chance.choice((0, 0, 0, 1, 3))))
            for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
                if not transport.closed:
                    connection.data_received(sent[start:end])
            async with asyncio.timeout(HANG_SECONDS):
                while target.is_busy(connection) and not transport.closed:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)  # in which HTTP/2 writes what has become ready
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} {error} by {data!r}") from error
        finally:
            connection.connection_lost(None)
        answer = bytes(transport.written)
        assert not self.errors.found, f"{self.errors.found} by {data!r}"
        return target.judge(answer, data)


class Target:
    """One language that clients speak."""

    listener: int
    seeds: Sequence[bytes]
    tokens: Sequence[bytes]

    def frame(self, data: bytes) -> bytes:
        """What is sent: the damaged bytes themselves, or a good request around them."""
        return data

    def is_busy(self, connection: Any) -> bool:
        """Whether an answer is still to come."""
        raise NotImplementedError

    def judge(self, answer: bytes, data: bytes) -> str:
        """A word for the answer. Raises AssertionError for one that bad input must not get."""
        raise NotImplementedError


_BODY = b'{"instances": [1, 2]}'
_X = b'{"name": "x", "datatype": "FP32", "shape": [2]'
_INFER = b'{"id": "1", "inputs": [' + _X + b', "data": [1, 2.5]}], "outputs": [{"name": "y"}], "parameters": {"a": 1}}'
_POST = b"POST /v1/models/table:predict HTTP/1.1\r\nHost: x\r\n"


class Http1(Target):
    listener = FuzzedServer.HTTP1
    seeds = (
        _POST + b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY,
        _POST + b"Transfer-Encoding: chunked\r\n\r\n15\r\n" + _BODY + b"\r\n0\r\nA: b\r\n\r\n",
        _POST + b"Expect: 100-continue\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /v1/models/table/versions/1/metadata HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.0\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        b"HEAD /monitoring/prometheus/metrics?x=y HTTP/1.1\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n",
        b"OPTIONS /v1/models/table/labels/%61b:predict HTTP/1.1\r\nOrigin: http://x\r\n\r\n",
    )
    tokens = (
        *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n\r\n", b"\r\n ", b"%", b"%00", b"%2e%2e%2f", b"../"),
        *(
            b"Content-Length: 5\r\n",
            b"Content-Length: -1\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"ffffffffffffffff\r\n",
        ),
        *(b"Transfer-Encoding: gzip, chunked\r\n", b"HTTP/1.1", b"HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        *(b"A: " + b"b" * 9000 + b"\r\n", b"A: b\r\n" * 150, b"Accept: text/event-stream\r\n", b"Host: y\r\n"),
        *(
            b"/versions/",
            b"/labels/",
            b":predict",
            b":classify",
            b"CONNECT",
            b"Expect: 100-continue\r\n",
            b"\xff",
            b"?",
        ),
    )

    def is_busy(self, connection: Any) -> bool:
        return bool(connection._exchanges)

    def judge(self, answer: bytes, data: bytes) -> str:
        statuses = [line[9:12] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
        # 501 and 505 are for methods and versions that are not known.
        bad = [status for status in statuses if status[:1] == b"5" and status not in (b"501", b"505")]
        assert not bad, f"{bad} by {data!r}"
        return (statuses[-1] if statuses else b"nothing").decode()


class Json(Http1):
    """Bodies of REST requests."""

    seeds = (
        _BODY,
        b'{"signature_name": "serving_default", "instances": [{"key": 1}, {"key": 2}]}',
        b'{"inputs": {"key": [1, 2]}}',
        b'{"inputs": [1.5, -2e3], "x": null}',
        b'{"instances": [{"b64": "AAAA"}, "\\u00e9\\ud83d\\ude00", true, [[1], [2]]]}',
        b'{"examples": [{"a": 1, "b": [1.5], "c": {"b64": "aGk="}}], "context": {"d": "x"}}',
        b'{"instances": [' + b"1.0, " * 300 + b"1]}",
    )
    tokens = (
        *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"null", b"true", b"NaN", b"Infinity"),
        *(b"[" * 2000, b'{"a":' * 2000, b'{"b64": "', b'"instances"', b'"inputs"', b"\xef\xbb\xbf", b"\0", b"\xff\xc0"),
        *(b"1e400", b"-0", b"1" * 400, b"0.1e-999", b"12345678901234567890", b"[[1],[2,3]]", b'"key": ', b"/*"),
    )
    paths = (b"table:predict", b"scale:predict", b"table:classify", b"scale:regress")

    def frame(self, data: bytes) -> bytes:
        path = self.paths[len(data) % len(self.paths)]
        return b"POST /v1/models/%b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (path, len(data), data)


class OpenInferenceJson(Json):
    """Bodies of the Open Inference Protocol: JSON, and raw values after it."""

    seeds = (
        _INFER,
        _INFER.replace(b"FP32", b"BYTES").replace(b"[1, 2.5]", b'["a", "b"]'),
        _INFER.replace(b'"data": [1, 2.5]', b'"parameters": {"binary_data_size": 8}') + b"\0\0\x80\x3f\0\0\0\x40",
    )
    tokens = (
        *(*Json.tokens, b'"binary_data_size": 8', b'"binary_data": true', b'"shape": [2, -1]', b'"datatype": "INT64"'),
        *(b'"signature_name": "a"', b'"timeout": 1', b"BF16", b"UINT64", b"\xff\xff\xff\x7f"),
    )

    def frame(self, data: bytes) -> bytes:
        size = data.rfind(b"}") + 1
        header = b"Inference-Header-Content-Length: %d\r\n" % size if len(data) % 3 else b""
        return b"POST /v2/models/scale/infer HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (header, len(data), data)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def http2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _headers(path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    fields = (
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")),
        *((b"content-type", b"application/grpc"), (b"te", b"trailers"), *more),
    )
    # HPACK's literals without indexing.
    return b"".join(bytes((0, len(n))) + n + bytes((len(v),)) + v for n, v in fields)


def _prefixed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


_FLOAT, _INT64 = (messages.DataType.Value(name) for name in ("DT_FLOAT", "DT_INT64"))


def _predict(model: str, name: str, dtype: int) -> messages.PredictRequest:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=model))
    tensor = request.inputs[name]
    tensor.dtype = dtype
    tensor.tensor_shape.dim.add(size=2)
    if dtype == _INT64:
        tensor.int64_val.extend((1, 2))
    else:
        tensor.tensor_content = b"\0\0\x80\x3f\0\0\0\x40"
    return request


_PREDICTION = b"/tensorflow.serving.PredictionService/"
_TABLE = _predict("table", "key", _INT64).SerializeToString()
_START = PREFACE + http2_frame(4, 0, 0)


def _call(path: bytes, message: bytes, *more: tuple[bytes, bytes], stream: int = 1) -> bytes:
    return http2_frame(1, 4, stream, _headers(path, *more)) + http2_frame(0, 1, stream, _prefixed(message))


class Http2(Target):
    """Frames."""

    listener = FuzzedServer.HTTP2
    seeds = (
        _START + _call(_PREDICTION + b"Predict", _TABLE),
        _START + _call(_PREDICTION + b"PredictStreamed", _TABLE) + http2_frame(6, 0, 0, b"12345678"),
        _START + _call(_PREDICTION + b"Predict", _TABLE, (b"grpc-encoding", b"gzip"), (b"grpc-timeout", b"9S")),
        _START
        + http2_frame(1, 0, 1, _headers(_PREDICTION + b"Predict"))
        + http2_frame(9, 4, 1, b"\x00\x01a\x01b")
        + http2_frame(0, 8, 1, b"\x02" + _prefixed(_TABLE) + b"\0\0")
        + http2_frame(1, 5, 1, b"\x00\x01a\x01b"),
        _START + _call(b"/grpc.health.v1.Health/Check", b"") + http2_frame(3, 0, 1, b"\0\0\0\x08"),
        PREFACE
        + http2_frame(4, 0, 0, b"\0\x04\0\0\0\x01\0\x05\0\0\x40\0")
        + _call(_PREDICTION + b"GetModelMetadata", b"\x0a\x07\x0a\x05table\x12\x0dsignature_def")
        + http2_frame(8, 0, 0, b"\0\0\xff\xff")
        + _call(b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"\x3a\x00", stream=3)
        + http2_frame(7, 0, 0, b"\0" * 8),
    )
    tokens = (
        *(http2_frame(kind, 0, 0) for kind in range(11)),
        *(http2_frame(kind, 5, 1, b"\0" * 5) for kind in range(11)),
        *(http2_frame(4, 1, 0), http2_frame(3, 0, 1, b"\0\0\0\x08"), http2_frame(8, 0, 0, b"\x7f\xff\xff\xff")),
        *(b"\0\0\0", b"\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x82\x86\x84", b"\x3f\xe1\xff\xff\x0f", PREFACE, b"\x40"),
        *(_headers(b"/"), _prefixed(b""), b"\1\xff\xff\xff\xff", http2_frame(6, 0, 0, b"12345678") * 50),
    )

    def is_busy(self, connection: Any) -> bool:
        return any(
            getattr(stream.events, "_task", None) is not None and stream.ended
            for stream in connection._streams.values()
        )

    def judge(self, answer: bytes, data: bytes) -> str:
        assert b"internal error" not in answer, f"INTERNAL by {data!r}"
        kinds = set()
        while len(answer) >= 9:
            kinds.add(answer[3])
            answer = answer[9 + int.from_bytes(answer[:3], "big") :]
        if 7 in kinds:
            return "goaway"
        return "answer" if 0 in kinds else "refusal" if 1 in kinds else "nothing"


class Protobuf(Http2):
    """Messages of gRPC calls."""

    seeds = (
        _TABLE,
        _predict("scale", "x", _FLOAT).SerializeToString(),
        messages.MultiInferenceRequest(
            tasks=[messages.InferenceTask(model_spec=messages.ModelSpec(name="table"), method_name="x")],
            input=messages.Input(example_list=messages.ExampleList(examples=[messages.Example()])),
        ).SerializeToString(),
        messages.SessionRunRequest(model_spec=messages.ModelSpec(name="scale"), fetch=["x"]).SerializeToString(),
        messages.GetModelMetadataRequest(
            model_spec=messages.ModelSpec(name="table"), metadata_field=["signature_def"]
        ).SerializeToString(),
    )
    tokens = (
        *(bytes((field << 3 | kind,)) for field in range(1, 16) for kind in range(6)),
        *(
            b"\xff" * 9 + b"\x01",
            b"\x80" * 10,
            b"\xff\xff\xff\xff\x0f",
            b"\x0a\x00",
            b"\x0a\x05table",
            b"\x12\x02\x08\x01",
        ),
        *(b"\x0a\x7f", b"\x0b" * 200, b"\x1a\x04\x12\x02\x08\x7f", b"\x28" + b"\xff" * 9 + b"\x01", b"\xc3\x28"),
    )
    paths = (
        _PREDICTION + b"Predict",
        _PREDICTION + b"Classify",
        _PREDICTION + b"MultiInference",
        _PREDICTION + b"GetModelMetadata",
        _PREDICTION + b"PredictStreamed",
        b"/tensorflow.serving.ModelService/GetModelStatus",
        b"/tensorflow.serving.SessionService/SessionRun",
        b"/grpc.health.v1.Health/Check",
        b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    )

    def frame(self, data: bytes) -> bytes:
        data = data[:16_000]  # of a frame
        return _START + _call(self.paths[len(data) % len(self.paths)], data)


class OpenInferenceProtobuf(Protobuf):
    """Messages of the Open Inference Protocol."""

    seeds = (
        messages.ModelInferRequest(
            model_name="scale",
            inputs=[messages.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2])],
            raw_input_contents=[b"\0\0\x80\x3f\0\0\0\x40"],
        ).SerializeToString(),
        messages.ModelInferRequest(
            model_name="scale",
            model_version="1",
            inputs=[
                messages.ModelInferRequest.InferInputTensor(
                    name="x", datatype="FP32", shape=[2], contents=messages.InferTensorContents(fp32_contents=[1, 2])
                )
            ],
        ).SerializeToString(),
    )
    paths = tuple(
        b"/inference.GRPCInferenceService/" + name
        for name in (b"ModelInfer", b"ModelStreamInfer", b"ModelMetadata", b"ModelStatistics", b"RepositoryIndex")
    )


TARGETS: dict[str, Callable[[], Target]] = {
    "http1": Http1,
    "json": Json,
    "http2": Http2,
    "protobuf": Protobuf,
    "open_inference_json": OpenInferenceJson,
    "open_inference_protobuf": OpenInferenceProtobuf,
}
