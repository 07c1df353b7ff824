"""Who is measured: how each is started, and how it is asked. Its server is a script of its own beside this module."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.running import ROOT
from benchmarks.workloads import Transport, Workload

SCRIPTS = Path(__file__).resolve().parent
WORKERS = os.cpu_count() or 1
"""Processes with the models that each contender gets, but TensorFlow Serving, and PyServing where nothing is said."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a contender is started with."""

    python: Path
    """Of its own environment."""
    models: Path
    """The folder with the models."""
    names: Sequence[str]
    """Which of them to load."""
    rest: int
    grpc: int
    scratch: Path
    """A folder of its own, removed at the end."""


@dataclass(frozen=True)
class Contender:
    key: str
    label: str
    command: Callable[[Start], Sequence[object]]
    note: str
    requirements: Sequence[str] = ()
    """Of pip; without any, the environment of the benchmarks serves."""
    transports: Sequence[Transport] = ("rest",)
    path: Callable[[Workload], str] = lambda workload: f"/v1/models/{workload.model}:predict"
    body: Callable[[Workload], bytes] = lambda workload: workload.json
    predictions: Callable[[Any], Any] = lambda answer: answer["predictions"]
    """From the JSON of an answer."""
    is_floor: bool = False
    """It computes nothing, and so its answer is not checked."""
    environment: Mapping[str, str] = field(default_factory=dict)


# Trials of other engines would take part in the figures.
_PYSERVING = [sys.executable, "-m", "pyserving.cli.model_server", "--accelerate=off"]


def _model_server(start: Start) -> list[object]:
    """The flags that TensorFlow Serving and PyServing share."""
    config = start.scratch / "models.config"
    entries = (
        f'config {{ name: "{name}" base_path: "{start.models / name}" model_platform: "tensorflow" }}\n'
        for name in start.names
    )
    config.write_text(f"model_config_list {{\n{''.join(entries)}}}\n")
    return [f"--port={start.grpc}", f"--rest_api_port={start.rest}", f"--model_config_file={config}"]


def _with_model(workload: Workload) -> bytes:
    return json.dumps({"model": workload.model, "instances": workload.rows}).encode()


def _v2(workload: Workload) -> bytes:
    """A request of the Open Inference Protocol, which lays the values of a tensor out flat."""
    array = workload.instances
    if array.dtype != object:
        tensor = {"datatype": "FP32", "shape": array.shape, "data": array.ravel().tolist()}
    else:
        as_base64 = isinstance(workload.rows[0], dict)
        tensor = {
            "datatype": "BYTES",
            "shape": [len(array), 1],
            "data": [row["b64"] for row in workload.rows] if as_base64 else workload.rows,
            "parameters": {"content_type": "base64" if as_base64 else "str"},
        }
    return json.dumps({"inputs": [{"name": workload.input_name, **tensor}]}).encode()


def _v2_predictions(answer: Any) -> Any:
    output = answer["outputs"][0]
    values, shape = output["data"], [size for size in output["shape"] if size != 1 or output["datatype"] != "BYTES"]
    if output["datatype"] != "BYTES" and len(shape) == 2 and shape[1] > 1:
        return [values[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]
    return values


def _mlserver(start: Start) -> list[object]:
    settings = {"host": "127.0.0.1", "http_port": start.rest, "grpc_port": start.grpc, "metrics_port": 0,
                "parallel_workers": WORKERS, "debug": False, "metrics_endpoint": None}  # fmt: skip
    (start.scratch / "settings.json").write_text(json.dumps(settings))
    for name in start.names:
        (start.scratch / name).mkdir()
        model = {"name": name, "implementation": "mlserver_runtime.SavedModelRuntime",
                 "parameters": {"uri": str(start.models / name)}}  # fmt: skip
        (start.scratch / name / "model-settings.json").write_text(json.dumps(model))
    return [start.python.parent / "mlserver", "start", start.scratch]


def _gunicorn(start: Start) -> list[object]:
    return [start.python, "-m", "gunicorn", f"--bind=127.0.0.1:{start.rest}", f"--workers={WORKERS}", "--threads=4",
            "--worker-class=gthread", "--timeout=0", "--keep-alive=60", "flask_server:app"]  # fmt: skip


def _uvicorn(start: Start) -> list[object]:
    return [start.python, "-m", "uvicorn", "--port", start.rest, "--workers", WORKERS, "--no-access-log",
            "--log-level=warning", "fastapi_server:app"]  # fmt: skip


def _bentoml(start: Start) -> list[object]:
    return [start.python, "-m", "bentoml", "serve", "--host=127.0.0.1", f"--port={start.rest}", "bentoml_server:Models"]


_WORKERS = f"{WORKERS} worker processes"

CONTENDERS: dict[str, Contender] = {
    contender.key: contender
    for contender in (
        Contender(
            "echo", "echo (floor)", lambda start: [sys.executable, "-m", "benchmarks.echo", start.rest, start.grpc],
            "PyServing's transport with a handler that answers a constant over REST and echoes over gRPC",
            transports=("rest", "grpc"), is_floor=True,
        ),
        Contender(
            "pyserving", "PyServing",
            lambda start: [*_PYSERVING, *_model_server(start)],
            "`tensorflow_model_server` on TensorFlow alone (`--accelerate=off`)", transports=("rest", "grpc"),
        ),
        Contender(
            "pyserving-workers", f"PyServing, {WORKERS} workers",
            lambda start: [*_PYSERVING, f"--workers={WORKERS}", *_model_server(start)],
            f"the same with `--workers={WORKERS}`", transports=("rest", "grpc"),
        ),
        Contender(
            "grpcio", "grpcio",
            lambda start: [sys.executable, "-m", "benchmarks.contenders.grpcio_server", start.grpc, start.models,
                           *start.names],
            "grpcio's server with 8 threads, PyServing's engine and messages", transports=("grpc",),
        ),
        Contender(
            "fastapi", "FastAPI", _uvicorn, f"under uvicorn, {_WORKERS}, the endpoint on FastAPI's pool of threads",
            ("fastapi", "uvicorn[standard]"),
        ),
        Contender(
            "flask", "Flask", _gunicorn, f"under gunicorn, {_WORKERS} with 4 threads", ("flask", "gunicorn"),
        ),
        Contender(
            "mlserver", "MLServer", _mlserver, f"a custom runtime, {_WORKERS}",
            # Its workers ask for the loop of a thread that has none, which later versions of uvloop refuse.
            ("mlserver", "uvloop<0.22"),
            path=lambda workload: f"/v2/models/{workload.model}/infer", body=_v2, predictions=_v2_predictions,
        ),
        Contender(
            "bentoml", "BentoML", _bentoml, f"a service with {_WORKERS}", ("bentoml",),
            path=lambda _: "/predict", body=_with_model, environment={"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Contender(
            "litserve", "LitServe", lambda start: [start.python, SCRIPTS / "litserve_server.py", start.rest],
            f"batches of up to 8 requests that come within 10 ms, {_WORKERS}", ("litserve",),
            path=lambda _: "/predict", body=_with_model,
        ),
        Contender(
            "ray", "Ray Serve", lambda start: [start.python, SCRIPTS / "ray_server.py", start.rest],
            f"a deployment with {WORKERS} replicas", ("ray[serve]",),
            path=lambda _: "/predict", body=_with_model, environment={"RAY_USAGE_STATS_ENABLED": "0"},
        ),
    )
}  # fmt: skip


def reference(path: str) -> Contender:
    """Any ``tensorflow_model_server``, by its path or its name on PATH. Raises FileNotFoundError if there is none."""
    found = shutil.which(path)
    if found is None:
        raise FileNotFoundError(f"no program {path}")
    return Contender(
        "reference", "reference", lambda start: [found, *_model_server(start)], "the program of `--reference`",
        transports=("rest", "grpc"),
    )  # fmt: skip


def environment_of(contender: Contender, start: Start) -> dict[str, str]:
    """What is put over the environment variables of this process for it."""
    own = {"MODELS": ",".join(start.names), "MODELS_FOLDER": str(start.models), "WORKERS": str(WORKERS)}
    modules = SCRIPTS if contender.requirements else ROOT
    path = f"{start.python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**own, "PYTHONPATH": str(modules), "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "2", **contender.environment}
