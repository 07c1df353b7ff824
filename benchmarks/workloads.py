"""What is asked: a model, the instances of a request, and the form in which they travel."""

import base64
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pyserving.protos import messages

Transport = Literal["rest", "grpc"]
Array = np.ndarray[Any, np.dtype[Any]]

_FLOAT, _STRING = 1, 7  # tensorflow/core/framework/types.proto


@dataclass(frozen=True, eq=False)
class Workload:
    name: str
    model: str
    input_name: str
    make: Callable[[], Array]
    transport: Transport
    batch: int = 1
    note: str = ""
    slow: bool = False
    """A server may need a tenth of a second for one request, or more."""

    @functools.cached_property
    def instances(self) -> Array:
        """The input, its first dimension the batch; strings as an array of bytes objects."""
        return self.make()

    @functools.cached_property
    def rows(self) -> list[Any]:
        """The instances as TensorFlow Serving's JSON has them; bytes that are no text as ``{"b64": ...}``."""
        if self.instances.dtype != object:
            rows: list[Any] = self.instances.tolist()
            return rows
        return [_json_string(value) for value in self.instances]

    @functools.cached_property
    def json(self) -> bytes:
        """The body of ``POST /v1/models/MODEL:predict``."""
        return json.dumps({"instances": self.rows}).encode()

    @functools.cached_property
    def message(self) -> bytes:
        """The PredictRequest: few floats as ``float_val``, images as ``tensor_content``, strings as ``string_val``."""
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name=self.model))
        tensor = request.inputs[self.input_name]
        for size in self.instances.shape:
            tensor.tensor_shape.dim.add(size=size)
        if self.instances.dtype == object:
            tensor.dtype = _STRING
            tensor.string_val.extend(self.instances.tolist())
        else:
            tensor.dtype = _FLOAT
            if self.instances.size < 16:
                tensor.float_val.extend(self.instances.tolist())
            else:
                tensor.tensor_content = self.instances.tobytes()
        return request.SerializeToString()


def _json_string(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _image(batch: int, *shape: int) -> Array:
    """Pixels of 8 bits, scaled to 0 to 1 as clients do: as JSON some 20 characters each."""
    pixels = np.random.default_rng(1).integers(0, 256, (batch, *shape), np.uint8)
    return pixels.astype(np.float32) / np.float32(255)


def _image_bytes(batch: int) -> Array:
    rows = np.empty(batch, object)
    rows[:] = [row.tobytes() for row in _image(batch, 224, 224, 3)]
    return rows


def _half_plus_two() -> Array:
    return np.array([1.0, 2.0, 5.0], np.float32)


def _mnist() -> Array:
    return _image(1, 28, 28, 1)


def _strings() -> Array:
    return np.array([b"a string", "größer als ASCII".encode(), b"x" * 100], object)


def _all() -> list[Workload]:
    found = []
    rest: Transport = "rest"
    for transport in (rest, "grpc"):
        found += [
            Workload(f"half_plus_two.{transport}", "half_plus_two", "x", _half_plus_two, transport, 3, "three floats"),
            Workload(f"mnist.{transport}", "mnist", "image", _mnist, transport, 1, "a CNN, one 28×28 image"),
            Workload(f"strings.{transport}", "strings", "text", _strings, transport, 3, "three strings to upper case"),
        ]
        for model in ("mobilenet_v2", "resnet50"):
            make = functools.partial(_image, 1, 224, 224, 3)
            found.append(
                Workload(f"{model}.{transport}", model, "image", make, transport, 1, "one 224×224×3 image", True)
            )
    for batch in (1, 8):
        many = "" if batch == 1 else f"{batch}"
        note = (
            f"{'one 224×224×3 image' if batch == 1 else f'{batch} images of 224×224×3'}, the mean of each channel, as "
        )
        make, raw = functools.partial(_image, batch, 224, 224, 3), functools.partial(_image_bytes, batch)
        found += [
            Workload(f"image{many}.json", "image", "image", make, "rest", batch, f"{note}JSON", True),
            Workload(f"image{many}.b64", "image_bytes", "image", raw, "rest", batch, f"{note}base64 in JSON"),
            Workload(f"image{many}.grpc", "image", "image", make, "grpc", batch, f"{note}tensor_content"),
        ]
    return found


WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _all()}
