"""Starts the processes of trials, waits for what they find, and ends them."""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pyserving.acceleration.cache import sweep
from pyserving.acceleration.trial_inputs import Inputs
from pyserving.acceleration.trial_process import Job, write_samples
from pyserving.acceleration.verdict import Verdict
from pyserving.core.free_memory import free_memory
from pyserving.core.interpreter import command, environment

_SECONDS = 900.0
"""What a trial may take."""
_SHARE_OF_MEMORY = 2
"""A process may take one so-manieth of what is free when it starts."""
_LAST_WORDS = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one signature."""

    signature: str
    verdict: Verdict
    artefact: str
    """The folder with what was compiled."""
    cached: bool
    """It was found earlier, by this program or another one."""


class TrialFailed(Exception):  # noqa: N818  # nothing is wrong with the server
    """The process ended without an answer; the text says how."""


class TrialProcess:
    """One trial, in a process that ends with this one."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False
        self._lock = threading.Lock()

    def run(self, samples: Mapping[str, Sequence[Inputs]]) -> list[Finding]:
        """Returns when there is an answer. Raises TrialFailed."""
        with tempfile.TemporaryDirectory(prefix="pyserving-trial-", ignore_cleanup_errors=True) as folder:
            try:
                return self._run(folder, samples)
            except OSError as error:
                raise TrialFailed(str(error)) from None
            finally:
                sweep(self._job.cache)

    def cancel(self) -> None:
        """Ends the process, from any thread: ``run`` raises TrialFailed."""
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                self._process.kill()

    def _run(self, folder: str, samples: Mapping[str, Sequence[Inputs]]) -> list[Finding]:
        free = free_memory()
        job = replace(self._job, memory_limit=None if free is None else free // _SHARE_OF_MEMORY)
        if any(samples.values()):
            job = replace(job, samples=os.path.join(folder, "samples.npz"))
            write_samples(job.samples, samples)
        log_path = os.path.join(folder, "log")
        with open(log_path, "w+b") as log:
            with self._lock:
                if self._cancelled:
                    raise TrialFailed("it was cancelled")
                self._process = process = subprocess.Popen(
                    command("-m", "pyserving.acceleration.trial_process"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    # What TensorFlow and OpenVINO write there is for those who work on them.
                    # What it leaves lying when it is ended goes with this folder.
                    env=environment(TF_CPP_MIN_LOG_LEVEL="3", TMPDIR=folder),
                )
            timer = threading.Timer(_SECONDS, process.kill)
            timer.start()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                # It stays open: the process ends when it is closed, as it is when this one dies.
                try:
                    process.stdin.write(job.to_json().encode() + b"\n")
                    process.stdin.flush()
                except BrokenPipeError:
                    pass  # how it ended is told below
                answer = process.stdout.read()
                process.wait()
            finally:
                timer.cancel()
                process.kill()
                process.wait()
                process.stdin.close()
                process.stdout.close()
            if not answer.strip():
                raise TrialFailed(self._ending(process.returncode, log_path))
        return self._findings(answer)

    def _findings(self, answer: bytes) -> list[Finding]:
        try:
            fields = json.loads(answer)
            if "error" in fields:
                raise TrialFailed(str(fields["error"]))
            return [
                Finding(
                    str(found["signature"]),
                    Verdict.from_json(found["verdict"]),
                    str(found["artefact"]),
                    bool(found["cached"]),
                )
                for found in fields["findings"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise TrialFailed(f"what it answered cannot be read: {error}") from None

    def _ending(self, returncode: int, log_path: str) -> str:
        if self._cancelled:
            return "it was cancelled"
        with open(log_path, "rb") as file:
            words = file.read()[-_LAST_WORDS:].decode(errors="replace").strip()
        how = f"it was ended by signal {-returncode}" if returncode < 0 else f"it ended with {returncode}"
        return f"{how}: {words.splitlines()[-1]}" if words else how
