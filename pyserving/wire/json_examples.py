"""The body of a REST classify or regress request: JSON to serialized ``tf.Example``s."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyserving.core.errors import ServingError, invalid_argument
from pyserving.protos.messages import Example, Feature
from pyserving.wire.base64_text import decode_base64
from pyserving.wire.json_reader import JsonObject
from pyserving.wire.json_request import parse_object, read_object, signature_name_of
from pyserving.wire.json_tensors import NotPlainError, is_base64
from pyserving.wire.json_text import describe, type_name


@dataclass(frozen=True, slots=True)
class ExamplesBody:
    """What a body says."""

    signature_name: str
    """Empty where the body names none."""
    examples: list[bytes]
    """Serialized, at least one."""
    context: bytes
    """A serialized Example with features that all examples have; empty where there is none."""


def parse_examples(body: bytes) -> ExamplesBody:
    """Reads ``examples``, ``context`` and ``signature_name``. Raises INVALID_ARGUMENT with the real server's texts."""
    try:
        return _read(parse_object(body))
    except (ServingError, NotPlainError):
        return _read(read_object(body))  # the slow reader has all that the error's text needs


def _read(document: dict[str, Any]) -> ExamplesBody:
    signature_name = signature_name_of(document) if isinstance(document, JsonObject) else _plain_name(document)
    context = _example(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise _unexpected(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _unexpected(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _unexpected(document, "'examples' value is an empty array")
    return ExamplesBody(signature_name, [_example(example) for example in examples], context)


def _plain_name(document: dict[str, Any]) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise NotPlainError
    return name


def _unexpected(document: dict[str, Any], text: str) -> Exception:
    if not isinstance(document, JsonObject):
        return NotPlainError()
    return invalid_argument(f"JSON Value: {describe(document)} {text}")


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_name(value)}")
    example = Example()
    features = example.features.feature
    # Of two features of one name the last counts, other than anywhere else.
    members: Iterable[tuple[str, Any]] = value.members if isinstance(value, JsonObject) else value.items()
    for name, content in members:
        try:
            feature = features[name]
        except UnicodeEncodeError:
            raise invalid_argument(f"Expected names of features in UTF-8, got {name!a}") from None
        feature.Clear()
        for element in content if isinstance(content, list) else [content]:
            _add(element, name, feature)
    return example.SerializeToString()


def _add(value: Any, name: str, feature: Feature) -> None:
    """Appends to the list of the feature's kind, which the first element decides."""
    if isinstance(value, bool | int):
        _expect_kind("int64_list", name, feature)
        if value >= 1 << 63:
            raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        feature.int64_list.value.append(int(value))
    elif isinstance(value, float):
        _expect_kind("float_list", name, feature)
        feature.float_list.value.append(value)
    elif isinstance(value, str):
        _expect_kind("bytes_list", name, feature)
        feature.bytes_list.value.append(value.encode(errors="surrogateescape"))
    elif is_base64(value):
        _expect_kind("bytes_list", name, feature)
        feature.bytes_list.value.append(decode_base64(value["b64"]))
    else:
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def _expect_kind(kind: str, name: str, feature: Feature) -> None:
    found = feature.WhichOneof("kind")
    if found not in (None, kind):
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {found.removesuffix('_list')}"
        )
