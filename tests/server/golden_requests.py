"""Files of recorded requests with answers, and model.py files that answer them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pyserving.protos import messages
from pyserving.wire.tensor_proto import write_tensor
from pyserving.wire.tfrecord import frame_record

LINEAR = """
    import time
    import numpy as np
    from pyserving import Model, Tensor

    class Linear(Model):
        def predict(self, x: Tensor[np.float32, None]) -> {{"y": Tensor[np.float32, None]}}:
            time.sleep({seconds})
            return {{"y": x * 2 + {add}}}
    """
"""y = 2 x + add, after some seconds; version 1 of ``write_linear`` adds 1."""


def tensor_of(values: Sequence[float]) -> messages.TensorProto:
    return messages.TensorProto.FromString(write_tensor(np.asarray(values, np.float32)))


def predict_log(x: Sequence[float], y: Sequence[float] | None, name: str = "m", when: int = 0) -> bytes:
    """A framed PredictionLog."""
    log = messages.PredictLog()
    log.request.model_spec.name = name
    log.request.inputs["x"].CopyFrom(tensor_of(x))
    if y is not None:
        log.response.outputs["y"].CopyFrom(tensor_of(y))
    record = messages.PredictionLog(predict_log=log)
    record.log_metadata.timestamp_secs = when
    return frame_record(record.SerializeToString())


def golden(*numbers: float, add: float = 1.0) -> bytes:
    """Requests with these numbers, and the answers of a version that adds ``add``."""
    return b"".join(predict_log([number], [2 * number + add]) for number in numbers)


def write_linear(base: Path, version: int, *, add: float = 1.0, seconds: float = 0.0, **files: bytes | str) -> Path:
    """Puts a version in place as a whole. ``files`` lie in assets.extra."""
    import textwrap

    folder = base.parent / f"{base.name}-{version}.new"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "model.py").write_text(textwrap.dedent(LINEAR).format(add=add, seconds=seconds))
    for name, content in files.items():
        path = folder / "assets.extra" / name.replace("_pbtxt", ".pbtxt")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    base.mkdir(exist_ok=True)
    return folder.rename(base / str(version))
