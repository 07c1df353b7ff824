"""A trial in a process of its own: ``python -m pyserving.acceleration.trial_process``.

Compilers crash, and take memory and time. Here they harm nobody: the process has the lowest priority and a limit of
memory, and ends when its server does. It reads one line of JSON (a ``Job``) and writes one: what it found of each
signature, or an error.
"""

import hashlib
import json
import logging
import os
import platform
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pyserving.acceleration.cache import Entry, digest_of_files, key_of
from pyserving.acceleration.engines import ENGINES, Engine, versions
from pyserving.acceleration.graph_objection import graph_objection
from pyserving.acceleration.trial import Trial
from pyserving.acceleration.trial_inputs import Inputs, objection
from pyserving.acceleration.verdict import Verdict
from pyserving.core.errors import ServingError
from pyserving.platforms.model import Signature
from pyserving.platforms.process.memory_limit import MemoryLimit
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.saved_model import read_meta_graph
from pyserving.platforms.tensorflow.session_config import SessionOptions

_FORMAT = "3"
"""To be raised when what lies in the cache, or how it is judged, changes."""
_ARTEFACT = "compiled"
"""The folder in an entry of the cache with what the engine has compiled."""
_OOM_SCORE = 1000
"""The first to be killed when the machine runs out of memory."""

logger = logging.getLogger("pyserving.acceleration")


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be tried."""

    engine: str
    folder: str
    """Of the version."""
    tags: Sequence[str]
    signatures: Sequence[str]
    num_threads: int
    """That share one operation; 0: as many as there are cores."""
    cache: str
    """The folder of all entries."""
    samples: str = ""
    """An npz file with inputs of requests (``write_samples``); empty: none."""
    memory_limit: int | None = None
    """Bytes."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # compilers print
    line = sys.stdin.readline()
    if not line:
        return
    job = Job(**json.loads(line))
    _step_back(job.memory_limit)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    try:
        answer: dict[str, Any] = {"findings": _look_up_or_try(job)}
    except (ServingError, OSError) as error:
        answer = {"error": error.message if isinstance(error, ServingError) else str(error)}
    except MemoryError:
        answer = {"error": f"it needs more than the {(job.memory_limit or 0) >> 20} MB that it may take"}
    results.write(json.dumps(answer) + "\n")
    results.flush()
    # Threads of compilers and of TensorFlow may be busy: nothing is lost by not waiting for them.
    os._exit(0)


def write_samples(path: str, samples: Mapping[str, Sequence[Inputs]]) -> None:
    """Inputs by signature. Names may be anything, so that numbers stand for them in the file."""
    arrays: dict[str, Any] = {}
    names: list[tuple[str, int, str]] = []
    for signature, of_signature in sorted(samples.items()):
        for number, inputs in enumerate(of_signature):
            for name, array in sorted(inputs.items()):
                arrays[f"a{len(names)}"] = array
                names.append((signature, number, name))
    np.savez(path, names=np.frombuffer(json.dumps(names).encode(), np.uint8), **arrays)


def _read_samples(path: str) -> dict[str, list[Inputs]]:
    found: dict[str, dict[int, Inputs]] = {}
    if path:
        with np.load(path, allow_pickle=False) as file:
            for position, (signature, number, name) in enumerate(json.loads(file["names"].tobytes())):
                found.setdefault(signature, {}).setdefault(number, {})[name] = file[f"a{position}"]
    return {signature: list(by_number.values()) for signature, by_number in found.items()}


def _look_up_or_try(job: Job) -> list[dict[str, Any]]:
    """A verdict for each signature, and the folder with what was compiled. Each has an entry of its own in the cache,
    which so does not depend on what else was asked for."""
    engine = ENGINES[job.engine]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{_cpu()} {cores}"
    common = [_FORMAT, engine.name, versions(engine), str(job.num_threads), machine, digest_of_files(job.folder)]
    options = SessionOptions(tags=tuple(job.tags), intra_op_parallelism=job.num_threads)
    tensorflow: TensorFlowModel | None = None
    all_samples = _read_samples(job.samples)
    found = []
    for name in job.signatures:
        samples = all_samples.get(name, [])
        entry = Entry(job.cache, key_of([*common, _digest(samples), *job.tags, "", name]))
        verdict = entry.read()  # what is there needs no lock, nor a folder that can be written to
        cached = verdict is not None
        if verdict is None:
            with entry.locked():
                verdict = entry.read()
                cached = verdict is not None
                if verdict is None:
                    tensorflow = tensorflow or TensorFlowModel(job.folder, options)
                    with entry.writing() as scratch:
                        artefact = os.path.join(scratch, _ARTEFACT)
                        os.mkdir(artefact)
                        signature = tensorflow.signatures[name]
                        verdict = _try(job, engine, tensorflow, signature, artefact, samples).to_json()
                        Entry.write(scratch, verdict)
        found.append(
            {"signature": name, "artefact": os.path.join(entry.path, _ARTEFACT), "cached": cached, "verdict": verdict}
        )
    return found


def _cpu() -> str:
    """What the CPU is and can do: on another one, answers and times are others."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            first = file.read().partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    told = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(line for line in first if line.startswith(told))


def _digest(samples: Sequence[Inputs]) -> str:
    digest = hashlib.sha256()
    for inputs in samples:
        for name, array in sorted(inputs.items()):
            digest.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _try(
    job: Job,
    engine: Engine,
    tensorflow: TensorFlowModel,
    signature: Signature,
    artefact: str,
    samples: Sequence[Inputs],
) -> Verdict:
    reason = objection(signature)
    if reason:
        return Verdict(engine.name, reason)
    try:
        graph = read_meta_graph(job.folder, job.tags).graph_def
        reason = graph_objection(graph, [spec.tensor_name for spec in signature.outputs.values()])
        if reason:
            return Verdict(engine.name, reason)
        engine.compile(job.folder, job.tags, signature, artefact)
        compiled = engine.open(artefact, signature, job.num_threads)
    except ServingError as error:
        return Verdict(engine.name, f"it cannot be compiled: {error.message}")
    return Trial(tensorflow, signature, engine.name, compiled, samples).verdict()


def _step_back(memory_limit: int | None) -> None:
    if hasattr(os, "nice"):
        os.nice(19)
    if memory_limit is not None:
        MemoryLimit(memory_limit)
    if sys.platform == "linux":
        try:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(str(_OOM_SCORE))
        except OSError:
            logger.debug("the kernel takes no OOM score")


def _end_with_the_server() -> None:
    """The server holds the other end of stdin open as long as it lives and wants the answer."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
