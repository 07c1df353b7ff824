"""A server with half_plus_two, and beside it a model whose versions come and go; ResNet50 to be that model."""

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import exported, usage
from benchmarks.running import ROOT, free_port, stop
from pyserving.protos import messages
from pyserving.wire.tfrecord import frame_record

CACHE = ROOT / ".cache" / "benchmarks"
STEADY = "half_plus_two"
CHANGING = "changing"

_PATIENCE = 60.0
"""Seconds that a step may take."""

Span = tuple[float, float]
"""From, to, on the clock of ``time.monotonic``."""


def steady_base_path() -> Path:
    """half_plus_two, in version 1."""
    return exported.base_path(STEADY)


def digits() -> Path:
    """The version folder of a small network for images of digits."""
    return exported.base_path("mnist") / "1"


def resnet50(warmup_records: int = 0) -> Path:
    """A version folder: 205 MB of variables, a saved_model.pb of 2 MB; and recorded requests of one picture each."""
    version = exported.base_path("resnet50") / "1"
    if not warmup_records:
        return version
    folder = CACHE / f"resnet50-{warmup_records}"
    if not folder.exists():
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(version, new, copy_function=os.link)
        _record_warmup(new, warmup_records)
        new.rename(folder)
    return folder


def _record_warmup(folder: Path, records: int) -> None:
    model = messages.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (name,) = model.meta_graphs[0].signature_def["serving_default"].inputs
    log = messages.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = CHANGING
    tensor = request.inputs[name]
    tensor.dtype = 1
    for size in (1, 224, 224, 3):
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.append(0.5)  # one value stands for all
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(
        frame_record(log.SerializeToString()) * records
    )


class ChangingServer:
    """``pyserving serve`` with the models STEADY and CHANGING. A context manager."""

    def __init__(self, version: Path, *arguments: str, options: str = "") -> None:
        """``version``: the folder that every version of CHANGING is a copy of. ``arguments``: more for the command.

        ``options``: ModelOptions of CHANGING, as text.
        """
        self._version = version
        self._number = 0
        # Beside the version, so that copies can be hard links: they take no time and no room.
        self._folder = Path(tempfile.mkdtemp(prefix="serving-", dir=CACHE))
        self._base = self._folder / CHANGING
        self._base.mkdir()
        config = self._folder / "models.config"
        models = "".join(
            f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" pyserving {{ {more} }} }}\n'
            for name, path, more in ((STEADY, steady_base_path(), ""), (CHANGING, self._base, options))
        )
        config.write_text(f"model_config_list {{\n{models}}}\n")
        self.rest, self.grpc = free_port(), free_port()
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "pyserving.cli.main", "serve", f"--config={config}", "--host=127.0.0.1",
                "--accelerate=off",
                f"--rest-port={self.rest}", f"--port={self.grpc}", "--poll=0.1", "--log-format=json", *arguments,
            ],
            cwd=ROOT, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.pid = self._process.pid
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            self._when("loaded", STEADY, 1)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "ChangingServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where ``open_loop`` asks STEADY."""
        return f"http://127.0.0.1:{self.rest}/v1/models/{STEADY}:predict"

    def add(self) -> Span:
        """Puts one more version of CHANGING there; when it was loaded."""
        self._number += 1
        staging = self._folder / "staging"
        shutil.copytree(self._version, staging, copy_function=os.link)
        staging.rename(self._base / str(self._number))
        return self._when("loading", CHANGING, self._number), self._when("loaded", CHANGING, self._number)

    def accelerated(self) -> float:
        """Waits until another engine serves the latest version; since when it does."""
        return self._when("accelerated", CHANGING, self._number)

    def unloaded(self, before: int = 0) -> Span:
        """Waits for the unload of the latest version, or one so many before it, which is removed or replaced."""
        number = self._number - before
        span = self._when("unloading", CHANGING, number), self._when("unloaded", CHANGING, number)
        if before:
            shutil.rmtree(self._base / str(number))
        return span

    def remove(self) -> Span:
        """Takes the latest version away; when it was unloaded."""
        (self._base / str(self._number)).rename(self._folder / "removed")
        shutil.rmtree(self._folder / "removed")
        return self.unloaded()

    def resident_mb(self) -> float:
        return usage.of(self.pid).resident_mb

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def stop(self) -> None:
        """Waits for its end, and removes the versions."""
        stop(self._process, 60)
        shutil.rmtree(self._folder)

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # what is not in the log's format: the summary at the start
            if "event" in event:
                self._events.put(event)
            elif event["level"] == "ERROR":
                print(event["message"], file=sys.stderr)
        self._events.put({"event": "ended", "message": "the server ended"})

    def _when(self, kind: str, model: str, version: int) -> float:
        """Waits for the event. Raises RuntimeError where a load failed or the server ended, TimeoutError."""
        while True:
            try:
                event = self._events.get(timeout=_PATIENCE)
            except queue.Empty:
                raise TimeoutError(f"version {version} of {model} is not {kind} after {_PATIENCE:g} s") from None
            if event["event"] in ("failed", "ended"):
                raise RuntimeError(event["message"])
            if (event["event"], event.get("model"), event.get("version")) == (kind, model, version):
                ago = time.time() - datetime.fromisoformat(event["time"]).timestamp()
                return time.monotonic() - ago
