"""What an unloaded Python model gives back."""

import gc
import os
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pyserving.core.servable import ServableId
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.platforms.python.platform import PythonPlatform

CODE = """
import weakref
import numpy as np
from pyserving import Model, Tensor, signature
from . import beside

class Held:
    pass

HELD = Held()

class Holds(Model):
    def load(self, folder):
        self.me = self
        self.held = Held()
        beside.alive.update({weakref.ref(HELD), weakref.ref(self.held)})

    def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
        return x + beside.ONE

    @signature
    async def other(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
        return x
"""


@pytest.mark.parametrize("models", [PythonModels.ON, PythonModels.PROCESS])
def test_no_thread_file_module_or_object_stays(tmp_path: Path, models: PythonModels) -> None:
    (tmp_path / "model.py").write_text(CODE)
    (tmp_path / "beside.py").write_text("ONE = 1\nalive = set()\n")
    platform = PythonPlatform(PlatformContext(python_options=PythonOptions(models)))
    gc.collect()  # what other tests have left is not to go meanwhile
    before = threads() | files() | modules()
    alive: set[weakref.ref[object]] = set()
    for version in range(2):
        loader = platform.loader(ServableId("m", version), str(tmp_path))
        model = loader.load()
        for signature in model.signatures.values():
            outcome = model.threads.submit(model.run, signature, {"x": np.zeros(2, np.float32)}, ["output_0"])
            assert len(outcome.result()[0]) == 2
        alive |= {ref for name in modules() - before for ref in getattr(sys.modules[name], "alive", ())}
        del model, outcome, signature
        loader.unload()
    for thread in threading.enumerate():
        if thread.name.startswith(("python-", "process-")):
            thread.join(10)
    assert threads() | files() | modules() <= before
    assert len(alive) == (4 if models is PythonModels.ON else 0)
    assert [ref() for ref in alive if ref() is not None] == []


def threads() -> set[object]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(("python-", "process-"))}


def files() -> set[object]:
    """Each with its number."""
    found = set[object]()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # as the one that lists them
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


def modules() -> set[str]:
    return {name for name in sys.modules if name.startswith("pyserving_model_")}
