"""The other floor: PyServing's engine in a loop, without sockets, messages and JSON.

``EngineAlone`` starts ``python -m benchmarks.engine_alone MODELS_FOLDER NAME...``, a process of its own, which reads a
line of JSON for each measurement from its standard input and writes one to its standard output.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.closed_loop import Load, percentile
from benchmarks.running import ROOT, stop
from benchmarks.workloads import WORKLOADS, Workload
from pyserving.platforms.model import INLINE_SECONDS
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions


class EngineAlone:
    """Measures calls of models, in a process that is started here and ended by ``close``."""

    def __init__(self, models: Path, names: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine_alone", str(models), *names],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._process.pid

    def load(self, workload: Workload, connections: int, seconds: float) -> Load:
        """Calls by as many threads as there are cores, or connections if these are fewer; one where it runs inline."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        threads = min(connections, os.cpu_count() or 1)
        self._process.stdin.write(json.dumps([workload.name, threads, seconds]).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine's process ended with {self._process.wait()}")
        return Load(*json.loads(line))

    def close(self) -> None:
        stop(self._process)


def runs_inline(call: Callable[[], object]) -> bool:
    """Whether a call, the fastest of a few, holds the GIL and the calling thread, as it does in PyServing."""
    return min(_timed(call) for _ in range(20)) < INLINE_SECONDS


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _measure(model: TensorFlowModel, workload: Workload, threads: int, seconds: float) -> Load:
    signature = model.signatures["serving_default"]
    inputs, outputs = {workload.input_name: workload.instances}, list(signature.outputs)
    inline = signature.steady and runs_inline(lambda: model.run(signature, inputs, outputs, inline=True))
    times: list[float] = []
    begin = time.perf_counter()

    def work() -> None:
        while time.perf_counter() < begin + seconds:
            times.append(_timed(lambda: model.run(signature, inputs, outputs, inline=inline)))

    workers = [threading.Thread(target=work) for _ in range(1 if inline else threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - begin
    times.sort()
    return Load(len(times), 0, took, percentile(times, 50) * 1e3, percentile(times, 99) * 1e3)


def main() -> None:
    folder = Path(sys.argv[1])
    models = {name: TensorFlowModel(str(folder / name / "1"), SessionOptions()) for name in sys.argv[2:]}
    for line in sys.stdin:
        name, threads, seconds = json.loads(line)
        load = _measure(models[WORKLOADS[name].model], WORKLOADS[name], threads, seconds)
        print(json.dumps([load.requests, load.failed, load.seconds, load.p50_ms, load.p99_ms]), flush=True)


if __name__ == "__main__":
    main()
