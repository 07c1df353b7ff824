"""Which files with weights an ONNX file names beside itself."""

from pyserving.core.errors import invalid_argument
from pyserving.platforms.onnx.fields import fields
from pyserving.sources.os_errors import serving_error

# Message: its fields that lead on, by number, after onnx.proto.
_WAYS = {
    "ModelProto": {7: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
_ENTRY = "StringStringEntryProto"


def external_files(path: str) -> list[str]:
    """Their names, as the file at ``path`` has them. Raises INVALID_ARGUMENT for what is no ONNX file."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise serving_error(path, error) from None
    found: set[str] = set()
    waiting = [(memoryview(content), "ModelProto")]
    try:
        while waiting:
            data, message = waiting.pop()
            if message == _ENTRY:
                entry = dict(fields(data))
                if bytes(entry.get(1, b"")) == b"location":
                    found.add(str(entry.get(2, b""), "utf-8"))
                continue
            ways = _WAYS[message]
            waiting.extend((value, ways[number]) for number, value in fields(data) if number in ways)
    except (IndexError, UnicodeDecodeError):
        raise invalid_argument(f"{path} is no ONNX model, or not a whole one") from None
    return sorted(found)
