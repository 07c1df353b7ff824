"""Keeps chatter off standard error while TensorFlow's library is opened."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what the process writes to standard error; passes it on at the end, less the chatter.

    Before its logging is set up TensorFlow writes informational lines whatever TF_CPP_MIN_LOG_LEVEL says, and
    from C++, where only the file descriptor can be caught.
    """
    try:
        original = os.dup(_STDERR)
    except OSError:  # closed: nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(original, _STDERR)
            os.close(original)
            held.seek(0)
            for line in held:
                if not _is_chatter(line):
                    os.write(_STDERR, line)


def _is_chatter(line: bytes) -> bool:
    """absl's lines begin with a letter for the severity, then the month and day, or zeros."""
    return (line[:1] == b"I" and line[1:5].isdigit()) or b"before absl::InitializeLog()" in line
