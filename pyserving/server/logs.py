"""Where log lines go, and how they look."""

import logging
import sys
from datetime import UTC, datetime
from enum import Enum

import orjson


class LogFormat(Enum):
    TEXT = "text"
    """In the form of TensorFlow's lines: time, first letter of the level, who, what."""
    JSON = "json"
    """A JSON object: time, level, logger, message; and where the line tells of an event, ``event`` and its details."""


def log_to_stderr(level: int = logging.INFO, *, form: LogFormat = LogFormat.TEXT) -> None:
    """One line per event on standard error.

    Who logs may give the details of an event as ``extra={"fields": {"event": "loaded", "model": "m", ...}}``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form is LogFormat.JSON else _TextFormatter())
    root = logging.getLogger("pyserving")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d: %(letter)s %(name)s] %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.letter = record.levelname[0]
        return super().format(record)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        # A text that no UTF-8 can hold, such as a path of odd bytes, is shown with its escapes.
        try:
            return orjson.dumps(line, default=str).decode()
        except (TypeError, ValueError):
            printable = {key: ascii(value) if isinstance(value, str) else value for key, value in line.items()}
            return orjson.dumps(printable, default=str).decode()
