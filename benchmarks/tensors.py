"""Measures decoding and encoding of 224×224×3 images beside json with numpy, and beside protobuf with numpy.

python -m benchmarks.tensors      prints a table in Markdown; writes benchmarks/results/tensors.{md,json}

All of a row is interleaved, and CPU time is taken. The median counts, for it has what each piece of work costs beside
itself, such as the looks of Python's garbage collector at all the lists that json makes; the ratio of the least stands
beside it.
"""

import base64
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.result_files import write_results
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Array, TensorSpec
from pyserving.protos.messages import PredictRequest, TensorProto
from pyserving.wire.json_request import parse_predict
from pyserving.wire.json_writer import write_predict
from pyserving.wire.long_contents import lift_contents
from pyserving.wire.tensor_proto import read_tensor, write_tensor

ROUNDS = 15
Work = Callable[[], object]


def images(kind: str, batch: int) -> Array:
    generator = np.random.default_rng(0)
    shape = (batch, 224, 224, 3)
    if kind == "floats":
        return generator.random(shape, np.float32)
    return generator.integers(0, 256, shape, np.uint8).astype(np.float32)


def as_json(array: Array, kind: str) -> Any:
    """Nested lists with the digits that a client would send: of float32, or integers."""
    if kind == "floats":
        return json.loads(write_predict({"x": array}, row=True))["predictions"]
    return array.astype(np.uint8).tolist()


FORMS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "rows": (lambda rows: {"instances": rows}, lambda body: body["instances"]),
    "objects": (
        lambda rows: {"instances": [{"x": row} for row in rows]},
        lambda body: [row["x"] for row in body["instances"]],
    ),
    "columns": (lambda rows: {"inputs": {"x": rows}}, lambda body: body["inputs"]["x"]),
}


def json_cases() -> dict[str, tuple[Work, Work]]:
    cases: dict[str, tuple[Work, Work]] = {}
    specs = {"x": TensorSpec("x", "x:0", DType.FLOAT, None)}
    for kind in ("floats", "integers"):
        for batch in (1, 8):
            array = images(kind, batch)
            rows = as_json(array, kind)
            for form, (build, pick) in FORMS.items():
                body = json.dumps(build(rows)).encode()
                assert parse_predict(body).tensors(specs)[0]["x"].tobytes() == array.tobytes()
                name = f"decode JSON, {kind}, {form}, batch {batch} ({len(body) / 1e6:.1f} MB)"
                cases[name] = (
                    lambda body=body: parse_predict(body).tensors(specs),  # type: ignore[misc]
                    lambda body=body, pick=pick: np.asarray(pick(json.loads(body)), np.float32),  # type: ignore[misc]
                )
            result = array if kind == "floats" else array.astype(np.uint8)
            cases[f"encode JSON, {kind}, batch {batch}"] = (
                lambda result=result: write_predict({"y": result}, row=True),  # type: ignore[misc]
                lambda result=result: json.dumps({"predictions": result.tolist()}).encode(),  # type: ignore[misc]
            )
    return cases


def base64_cases() -> dict[str, tuple[Work, Work]]:
    specs = {"x": TensorSpec("x", "x:0", DType.STRING, None)}
    cases: dict[str, tuple[Work, Work]] = {}
    for name, data in {
        "a JPEG's size": np.random.default_rng(0).bytes(100_000),
        "raw": images("floats", 1).tobytes(),
    }.items():
        for batch in (1, 8):
            rows = [{"b64": base64.b64encode(data).decode()}] * batch
            body = json.dumps({"instances": rows}).encode()
            outputs = np.empty(batch, object)
            outputs[:] = [data] * batch

            def theirs(body: bytes = body) -> object:
                return np.array([base64.b64decode(row["b64"]) for row in json.loads(body)["instances"]], object)

            def write(outputs: Array = outputs) -> object:
                values = [{"b64": base64.b64encode(value).decode()} for value in outputs]
                return json.dumps({"predictions": values}).encode()

            cases[f"decode b64, {name}, batch {batch}"] = (lambda body=body: parse_predict(body).tensors(specs), theirs)  # type: ignore[misc]
            cases[f"encode b64, {name}, batch {batch}"] = (
                lambda outputs=outputs: write_predict({"y_bytes": outputs}, row=True),  # type: ignore[misc]
                write,
            )
    return cases


def proto_cases() -> dict[str, tuple[Work, Work]]:
    cases: dict[str, tuple[Work, Work]] = {}
    for batch in (1, 8):
        array = images("floats", batch)
        for field, as_content in (("tensor_content", True), ("float_val", False)):
            request = PredictRequest()
            request.inputs["x"].MergeFromString(write_tensor(array, as_content=as_content))
            data = request.SerializeToString()

            def ours(data: bytes = data) -> Array:
                rest, contents = lift_contents(data)
                return read_tensor(PredictRequest.FromString(rest).inputs["x"], "x", contents.get("x"))

            def theirs(data: bytes = data, field: str = field) -> Array:
                tensor = PredictRequest.FromString(data).inputs["x"]
                shape = [dim.size for dim in tensor.tensor_shape.dim]
                if field == "float_val":
                    return np.fromiter(tensor.float_val, np.float32).reshape(shape)
                return np.frombuffer(tensor.tensor_content, np.float32).copy().reshape(shape)

            def write(array: Array = array, field: str = field) -> bytes:
                tensor = TensorProto(dtype=1)
                for size in array.shape:
                    tensor.tensor_shape.dim.add(size=size)
                if field == "float_val":
                    tensor.float_val.extend(array.ravel())
                else:
                    tensor.tensor_content = array.tobytes()
                serialized: bytes = tensor.SerializeToString()
                return serialized

            assert ours().tobytes() == theirs().tobytes() == array.tobytes()
            cases[f"decode {field}, batch {batch}"] = (ours, theirs)
            cases[f"encode {field}, batch {batch}"] = (
                lambda array=array, as_content=as_content: write_tensor(array, as_content=as_content),  # type: ignore[misc]
                write,
            )
    return cases


def cpu_seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    cases = json_cases() | base64_cases() | proto_cases()
    figures: dict[str, dict[str, float]] = {}
    for name, (ours, theirs) in track(cases.items(), "measuring", disable=not sys.stderr.isatty()):
        rounds = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(ROUNDS)]
        ours_ms, theirs_ms = ([seconds * 1e3 for seconds in one] for one in zip(*rounds, strict=True))
        figures[name] = {
            "ours_ms": statistics.median(ours_ms),
            "theirs_ms": statistics.median(theirs_ms),
            "ratio_of_least": min(theirs_ms) / min(ours_ms),
        }
    lines = [
        "| 224×224×3, float32 | PyServing | json or protobuf, with numpy | ratio | of the least |",
        "|---|---|---|---|---|",
    ]
    for name, figure in figures.items():
        ours, theirs, least = figure["ours_ms"], figure["theirs_ms"], figure["ratio_of_least"]
        lines.append(f"| {name} | {ours:.2f} ms | {theirs:.2f} ms | {theirs / ours:.1f} | {least:.1f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    write_results("tensors", text, figures)


if __name__ == "__main__":
    main()
