"""What goes wrong with TensorFlow in a server unless it is taken care of."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tensorflow_models import CallableModel, Load, ModelDir, RunPython, floats, texts

pytestmark = pytest.mark.tensorflow

SIZE = 50_000
"""Of the variables in the models: 200 kB, so that outputs are not copied for being small."""


def test_what_was_fed_may_be_overwritten(load_own: Load) -> None:
    model = load_own("aliasing")
    x = np.full(SIZE, 7, np.float32)
    answer = model("put", x=x)["y"]
    x[:] = -1
    assert np.unique(answer).tolist() == [7]
    assert np.unique(model("read")["y"]).tolist() == [7]  # the variable took over the memory that was fed


@pytest.mark.parametrize("inline", [True, False])
def test_a_feed_that_became_a_variable_is_not_filled_again(load_own: Load, inline: bool) -> None:
    """Small feeds are kept to be filled again, but not those that TensorFlow goes on using."""
    model = load_own("aliasing")
    for value in range(1, 6):
        model("push", x=floats(value, value), inline=inline)
        assert model("push", x=floats(-value, -value), inline=inline)["last_but_one"].tolist() == [value, value]


def test_strings_that_were_fed_may_go(load_own: Load) -> None:
    model = load_own("aliasing")
    strings = [b"short", b"long" * 20, b""]
    answer = model("put_text", x=texts(*strings))["y"]
    for _ in range(20):  # would take over freed memory
        model("put_text", x=texts(*[b"other" * 20] * 3))
        model("put_text", x=texts(*strings))
    assert answer.tolist() == strings
    assert model("read_text")["y"].tolist() == strings


CHANGES: list[Callable[[CallableModel, float], object]] = [
    lambda model, value: model("add", by=np.array(value, np.float32)),
    lambda model, value: model(
        "scatter", index=np.arange(SIZE, dtype=np.int32), value=np.full(SIZE, value, np.float32)
    ),
    lambda model, value: model("put", x=np.full(SIZE, value, np.float32)),
]


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("second", [0, 1, 2])
def test_an_answer_stays_as_it_was_when_the_variable_changes(load_own: Load, first: int, second: int) -> None:
    model = load_own("aliasing")
    for value, change in enumerate((CHANGES[first], CHANGES[second], CHANGES[first]), 1):
        answer = model("read")["y"]
        before = answer.copy()
        change(model, 10.0**value)
        np.testing.assert_array_equal(answer, before)
        assert not np.array_equal(model("read")["y"], before)


def test_an_answer_stays_as_it_was_when_a_variable_of_tf1_changes(load_own: Load) -> None:
    model = load_own("reference_variable")
    answer = model("read")["y"]
    model("add", by=np.float32(1).reshape(()))
    assert np.unique(answer).tolist() == [0]
    assert np.unique(model("read")["y"]).tolist() == [2]


def test_an_answer_outlives_its_model(load_own: Load) -> None:
    model = load_own("aliasing")
    x = np.arange(SIZE, dtype=np.float32)
    answer = model("echo", x=x)["y"]
    model.close()
    np.testing.assert_array_equal(answer, x)


RUN_HALF_PLUS_TWO = """
import sys
import numpy as np
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions
model = TensorFlowModel(sys.argv[1], SessionOptions())
def run(**how):
    return model.run(model.signatures["serving_default"], {"x": np.array([1], np.float32)}, ["y"], **how)[0].tolist()
"""


@pytest.fixture
def half_plus_two(model_dir: ModelDir) -> str:
    return str(model_dir("half_plus_two_tf2") / "1")


def test_tensorflow_is_not_imported_and_says_nothing(run_python: RunPython, half_plus_two: str) -> None:
    code = RUN_HALF_PLUS_TWO + "print(run(), 'tensorflow' in sys.modules)"
    assert run_python("import os; os.dup2(1, 2)\n" + code, half_plus_two) == "[2.5] False\n"


def test_what_others_write_while_the_library_opens_is_not_lost(run_python: RunPython) -> None:
    code = """
import os
from pyserving.platforms.tensorflow.quiet_stderr import quiet_stderr
os.dup2(1, 2)
with quiet_stderr():
    os.write(2, b"W0000 00:00:1 worth knowing\\nI0000 00:00:1 chatter\\nIt is ours\\n")
"""
    assert run_python(code) == "W0000 00:00:1 worth knowing\nIt is ours\n"


def test_models_may_load_at_once_as_the_first(run_python: RunPython, half_plus_two: str) -> None:
    code = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions
os.dup2(1, 2)
with ThreadPoolExecutor(4) as threads:
    print(len(set(threads.map(lambda _: TensorFlowModel(sys.argv[1], SessionOptions()), range(4)))), flush=True)
os.write(2, b"standard error is as it was\\n")
"""
    assert run_python(code, half_plus_two) == "4\nstandard error is as it was\n"


def test_user_code_may_import_tensorflow_later(run_python: RunPython, half_plus_two: str) -> None:
    code = RUN_HALF_PLUS_TWO + (
        "import tensorflow as tf\n"
        "print(run(), tf.saved_model.load(sys.argv[1]).signatures['serving_default'](tf.constant([1.0]))['y'].numpy())"
    )
    assert run_python(code, half_plus_two) == "[2.5] [2.5]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_so_instead_of_waiting_for_ever(run_python: RunPython, half_plus_two: str) -> None:
    code = (
        RUN_HALF_PLUS_TWO
        + """
import os
run()
child = os.fork()
if child == 0:
    from pyserving.core.errors import ServingError
    try:
        run()
    except ServingError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(run())
"""
    )
    printed = run_python("import warnings; warnings.simplefilter('ignore')\n" + code, half_plus_two)
    assert "FAILED_PRECONDITION: this process was forked" in printed
    assert printed.endswith("[2.5]\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_before_the_first_session_computes(run_python: RunPython, half_plus_two: str) -> None:
    code = (
        """
import os
from pyserving.platforms.tensorflow.library import tensorflow
tensorflow()
child = os.fork()
if child != 0:
    os.waitpid(child, 0)
    os._exit(0)
"""
        + RUN_HALF_PLUS_TWO
        + "print(run(), run(inline=True), flush=True)"
    )
    assert run_python(code, half_plus_two) == "[2.5] [2.5]\n"


def test_without_tensorflow_the_message_says_what_to_install(run_python: RunPython, half_plus_two: str) -> None:
    hidden = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "tensorflow":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""
    code = """
from pyserving.core.errors import ServingError
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions
try:
    TensorFlowModel(sys.argv[1], SessionOptions())
except ServingError as error:
    print(error)
"""
    printed = run_python(hidden + code, half_plus_two)
    assert printed.startswith("FAILED_PRECONDITION: TensorFlow is not installed")
    assert "pip install 'pyserving[tensorflow]'" in printed


def test_python_goes_on_while_a_model_runs(run_python: RunPython, model_dir: ModelDir) -> None:
    """The run loops in TensorFlow until another thread, which needs the GIL, opens the gate. If not, this hangs."""
    code = """
import sys, threading
import numpy as np
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions
model = TensorFlowModel(sys.argv[1], SessionOptions())
def run(name, **inputs):
    return model.run(model.signatures[name], inputs, list(model.signatures[name].outputs))
run("gate", to=np.array(0, np.int32))
waiting = threading.Thread(target=run, args=("wait",), kwargs={"x": np.zeros(1, np.float32)})
waiting.start()
run("gate", to=np.array(1, np.int32))
waiting.join()
print("done")
"""
    assert run_python(code, str(model_dir("slow") / "1")) == "done\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_python_goes_on_while_a_model_loads(run_python: RunPython, model_dir: ModelDir, tmp_path: Path) -> None:
    """TensorFlow waits at a named pipe until another thread, which needs the GIL, opens it. If not, this hangs."""
    folder = tmp_path / "1"
    shutil.copytree(model_dir("half_plus_two_tf2") / "1", folder)
    index = folder / "variables" / "variables.index"
    index.unlink()
    os.mkfifo(index)
    code = """
import os, sys, threading
from pyserving.core.errors import ServingError
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions
def load():
    try:
        TensorFlowModel(sys.argv[1], SessionOptions())
    except ServingError:
        print("refused")  # a pipe is no index
loading = threading.Thread(target=load)
loading.start()
while True:
    try:
        os.close(os.open(sys.argv[2], os.O_WRONLY | os.O_NONBLOCK))
        break
    except OSError:  # nobody reads it yet
        pass
loading.join()
"""
    assert run_python(code, str(folder), str(index)) == "refused\n"


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory use from /proc")
def test_runs_keep_no_memory(run_python: RunPython, model_dir: ModelDir) -> None:
    """Small, large and string tensors, and runs that fail: 1000 of each, 200 kB or more of them large."""
    code = """
import os, sys
import numpy as np
from pyserving.core.errors import ServingError
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

aliasing, strings, failing = (TensorFlowModel(path, SessionOptions()) for path in sys.argv[1:])
text = np.full(100, b"x" * 2000, object)

def runs():
    echo = aliasing.signatures["echo"]
    aliasing.run(echo, {"x": np.zeros(50_000, np.float32)}, ["y"])
    for names in (["copy_bytes"], ["upper"], ["length"]):
        strings.run(strings.signatures["serving_default"], {"text": text}, names)
    try:
        failing.run(failing.signatures["fold"], {"x": np.zeros(50_000, np.float32)}, ["y"])
    except ServingError:
        return
    raise AssertionError("50000 is no multiple of 3")

for _ in range(100):
    runs()
before = resident()
for _ in range(1000):
    runs()
print(resident() - before)
"""
    folders = [str(model_dir(name) / "1") for name in ("aliasing", "strings", "failing")]
    assert int(run_python(code, *folders)) < 50_000_000


def test_small_and_large_runs_mix_from_one_plan(load: Load) -> None:
    """Arguments of a run are used again by the next: nothing of the last one may show."""
    model = load("unknown_rank")
    for size in (1, 100_000, 2, 0, 3):
        x = np.arange(size, dtype=np.float32)
        np.testing.assert_array_equal(model(x=x)["y"], 2 * x)
    np.testing.assert_array_equal(model(x=floats(1))["y"], floats(2))
