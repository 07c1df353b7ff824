"""Which operations an ONNX file has, for ONNX Runtime does not tell.

The file is a protocol message. Only the fields on the way to the operations are read, all others are stepped over:
weights may be much larger than what is wanted of the file. Field numbers are those of onnx.proto.
"""

from collections import Counter

from pyserving.core.errors import ServingError, invalid_argument
from pyserving.platforms.onnx.fields import fields
from pyserving.sources.os_errors import serving_error

# Message: its fields that lead on, by number.
_WAYS = {
    "ModelProto": {7: "GraphProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto"},
    "FunctionProto": {7: "NodeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {6: "GraphProto", 11: "GraphProto"},
}
_OP_TYPE = 4


def count_op_types(path: str) -> Counter[str]:
    """How often each type of operation occurs, such as ``Conv``, those in loops, branches and functions included.

    Raises NOT_FOUND and what else the system says; INVALID_ARGUMENT for a file that is no such message.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise serving_error(path, error) from None
    found: Counter[str] = Counter()
    waiting = [(memoryview(content), "ModelProto")]
    try:
        while waiting:
            data, message = waiting.pop()
            ways = _WAYS[message]
            for number, value in fields(data):
                if number in ways:
                    waiting.append((value, ways[number]))
                elif message == "NodeProto" and number == _OP_TYPE:
                    found[str(value, "utf-8")] += 1
    except (IndexError, UnicodeDecodeError):
        raise _damaged(path) from None
    return found


def _damaged(path: str) -> ServingError:
    return invalid_argument(f"{path} is no ONNX model, or not a whole one")
