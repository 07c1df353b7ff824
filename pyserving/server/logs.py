"""Where log lines go, and how they look."""

import logging
import sys


def log_to_stderr(level: int = logging.INFO) -> None:
    """One line per event on standard error, in the form of TensorFlow's: time, first letter of the level, who, what."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s.%(msecs)03d: %(letter)s %(name)s] %(message)s", "%Y-%m-%d %H:%M:%S"))
    root = logging.getLogger("pyserving")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.letter = record.levelname[0]
        return super().format(record)
