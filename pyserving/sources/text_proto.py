"""Reads config files in protobuf's text format."""

import logging
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from pyserving.core.errors import invalid_argument
from pyserving.protos.messages import POOL
from pyserving.sources.os_errors import serving_error

logger = logging.getLogger("pyserving.sources")

M = TypeVar("M", bound=Message)


def read_text_proto(path: str, message_type: type[M]) -> M:
    """The message in a text format file.

    Raises ServingError with TensorFlow Serving's texts: NOT_FOUND or the like if the file cannot be read,
    INVALID_ARGUMENT if it is empty or is not such a message; line and column of the fault go to the log.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise serving_error(path, error) from error
    if not data:
        raise invalid_argument(f"{path}; Invalid argument")
    try:
        # Editors on Windows like to begin a file with a byte order mark.
        return _parse(data.decode("utf-8-sig"), message_type)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        logger.error("%s is no %s in text format: %s", path, message_type.DESCRIPTOR.full_name, error)
        raise invalid_argument(f"Invalid protobuf file: '{path}'") from error


def parse_text_proto(text: str, message_type: type[M]) -> M:
    """The message that ``text`` is. Raises INVALID_ARGUMENT that says at which line and column it is not."""
    try:
        return _parse(text, message_type)
    except (text_format.ParseError, RecursionError) as error:
        raise invalid_argument(f"Expected a {message_type.DESCRIPTOR.name} in text format: {error}") from error


def write_text_proto(message: Message) -> str:
    """``message`` in text format."""
    return str(text_format.MessageToString(message, descriptor_pool=POOL))


def _parse(text: str, message_type: type[M]) -> M:
    message = message_type()
    text_format.Parse(text, message, descriptor_pool=POOL)
    return message
