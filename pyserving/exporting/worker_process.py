"""Runs the program that exports with TensorFlow, which is not imported here."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from pyserving.core.errors import Code, ServingError
from pyserving.exporting.job import Job, to_line

_MOST_LINES = 5


def run_job(job: Job, keep_open: Sequence[int] = ()) -> list[str]:
    """The names of the signatures that were exported.

    ``keep_open``: file descriptors that the process has, too, as long as it lives. Raises ServingError:
    FAILED_PRECONDITION where TensorFlow or Keras is not installed, INVALID_ARGUMENT for what cannot be exported.
    """
    for package in ("tensorflow", "keras"):
        if importlib.util.find_spec(package) is None:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"exporting from Keras or TensorFlow needs the package {package}: pip install 'pyserving[tensorflow]'",
            )
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=keep_open,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):
                process.stdin.write(to_line(job))
                process.stdin.flush()
            line = process.stdout.readline()
        finally:
            process.kill()
            code = process.wait()
        if not line:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()[-_MOST_LINES:]
            raise ServingError(Code.INTERNAL, "\n".join([f"the exporting process ended ({_cause(code)})", *said]))
    answer = json.loads(line)
    if answer["error"]:
        raise ServingError(Code.INVALID_ARGUMENT, answer["error"])
    signatures: list[str] = answer["signatures"]
    return signatures


def _cause(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
