"""Who gets which interpreter, and who waits."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tflite_running import floats

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.tflite.interpreter import Interpreter
from pyserving.platforms.tflite.litert import litert
from pyserving.platforms.tflite.model_file import read_content, read_model_file
from pyserving.platforms.tflite.options import TFLiteOptions
from pyserving.platforms.tflite.pool import InterpreterPool
from pyserving.platforms.tflite.signatures import read_signatures


class Maker:
    """Makes interpreters of one model, and counts them."""

    def __init__(self, folder: Path) -> None:
        self._content = read_content(str(folder / "linear" / "1"))
        self.bound = read_signatures(read_model_file(litert(), self._content), tensor_names=False)["serving_default"]
        self.made = 0
        self.fails = False

    def __call__(self) -> Interpreter:
        if self.fails:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "no memory")
        self.made += 1
        return Interpreter(litert(), self._content, 1)


@pytest.fixture
def maker(tflite_folder: Path) -> Maker:
    return Maker(tflite_folder)


def take(pool: InterpreterPool, *, timeout: float | None = None, inline: bool = False, rows: int = 1) -> Interpreter:
    return pool.take(1, ((rows, 3),), timeout=timeout, inline=inline)


def test_interpreters_are_made_when_all_others_are_busy(maker: Maker) -> None:
    pool = InterpreterPool(maker, 3, keeps_state=False)
    assert maker.made == 1
    pool.give_back(take(pool))
    pool.give_back(take(pool))
    assert maker.made == 1
    held = [take(pool) for _ in range(3)]
    assert maker.made == 3
    assert len(set(map(id, held))) == 3


def test_the_wait_for_an_interpreter_ends_at_the_deadline(maker: Maker) -> None:
    pool = InterpreterPool(maker, 1, keeps_state=False)
    held = take(pool)
    for timeout in (0.01, 0.0, -1.0):
        with pytest.raises(ServingError, match="all 1 interpreters of the model were busy") as caught:
            take(pool, timeout=timeout)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
    pool.give_back(held)
    assert take(pool, timeout=0.0) is held


def test_who_waits_gets_what_is_given_back(maker: Maker) -> None:
    pool = InterpreterPool(maker, 1, keeps_state=False)
    held = take(pool)
    started = threading.Event()

    def wait() -> Interpreter:
        started.set()
        return take(pool, timeout=60)

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait)
        assert started.wait(60)
        pool.give_back(held)
        assert waiting.result(60) is held


def test_an_event_loop_never_waits(maker: Maker) -> None:
    pool = InterpreterPool(maker, 1, keeps_state=False)
    held = take(pool)
    more = take(pool, inline=True)
    assert maker.made == 2
    pool.give_back(more)  # one too many: it is dropped, so that threads still have to wait
    with pytest.raises(ServingError):
        take(pool, timeout=0.0)
    pool.give_back(held)
    assert take(pool) is held


def test_a_model_that_keeps_state_has_one_interpreter(maker: Maker) -> None:
    pool = InterpreterPool(maker, 4, keeps_state=True)
    take(pool)
    with pytest.raises(ServingError):
        take(pool, timeout=0.0, inline=True)
    assert maker.made == 1


def test_who_last_had_these_shapes_is_preferred(maker: Maker) -> None:
    pool = InterpreterPool(maker, 2, keeps_state=False)
    two, five = take(pool), take(pool)
    for interpreter, rows in ((two, 2), (five, 5)):
        interpreter.run(maker.bound, [floats(rows, 3)], ((rows, 3),), ["y"], reset=False)
    pool.give_back(two)
    pool.give_back(five)
    subgraph = maker.bound.subgraph
    assert pool.take(subgraph, ((2, 3),), timeout=None, inline=False) is two
    pool.give_back(two)
    assert pool.take(subgraph, ((5, 3),), timeout=None, inline=False) is five


def test_a_failure_to_make_one_leaves_its_place_free(maker: Maker) -> None:
    pool = InterpreterPool(maker, 2, keeps_state=False)
    take(pool)
    maker.fails = True
    with pytest.raises(ServingError, match="no memory"):
        take(pool)
    maker.fails = False
    take(pool, timeout=0.0)
    assert maker.made == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (TFLiteOptions(num_pools=3), 3),
        (TFLiteOptions(num_pools=2, num_interpreters_per_pool=4), 8),
        (TFLiteOptions(num_pools=1, num_interpreters_per_pool=0), 1),
    ],
)
def test_pools_and_interpreters_multiply(options: TFLiteOptions, expected: int) -> None:
    assert options.num_interpreters == expected
    assert TFLiteOptions().num_interpreters >= 1
