"""``tf.Example``s as people write them, as messages and as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pyserving.client.arrays import to_array
from pyserving.core.errors import invalid_argument
from pyserving.protos.messages import Example, Feature
from pyserving.wire.base64_text import encode_base64


def to_examples(examples: Iterable[Any]) -> list[Example]:
    """Each a dict of features (a number, a text, bytes, or a list or vector of these), or a serialized or whole
    ``tf.train.Example``.

    Floats become a float_list, integers and bools an int64_list, as JSON's 1.0 and 1 do. Raises INVALID_ARGUMENT.
    """
    if isinstance(examples, Mapping | bytes | str):
        raise invalid_argument(f"expected a list of examples, got one {type(examples).__name__}")
    made = [_example(example) for example in examples]
    if not made:
        raise invalid_argument("expected at least one example, got none")
    return made


def example_document(example: Example) -> dict[str, Any]:
    """The JSON form that REST takes."""
    return {name: _feature_document(feature) for name, feature in example.features.feature.items()}


def _example(given: Any) -> Example:
    if isinstance(given, Mapping):
        example = Example()
        for name, value in given.items():
            _fill(example.features.feature[name], name, value)
        return example
    serialize = getattr(given, "SerializeToString", None)
    data = serialize() if serialize is not None else given
    if not isinstance(data, bytes):
        raise invalid_argument(f"expected a dict of features or a tf.train.Example, got {type(given).__name__}")
    try:
        return Example.FromString(data)
    except ValueError as error:
        raise invalid_argument(f"these {len(data)} bytes are no serialized tf.train.Example: {error}") from None


def _fill(feature: Feature, name: str, value: Any) -> None:
    array = to_array(name, value).ravel()
    if array.dtype == object:
        feature.bytes_list.value.extend(array.tolist())
    elif array.dtype.kind in "iub":
        feature.int64_list.value.extend(array.astype(np.int64).tolist())
    elif array.dtype.kind == "f":
        feature.float_list.value.extend(array.tolist())
    else:
        raise invalid_argument(f"feature {name}: expected numbers or strings, got {array.dtype}")


def _feature_document(feature: Feature) -> Sequence[Any]:
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    return [_text(value) for value in values] if kind == "bytes_list" else values


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": encode_base64(value)}
