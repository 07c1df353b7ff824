import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyserving.platforms.python.source_file import Constants, read_constants

FILE = """
import pyserving

class Sums(pyserving.Model):
    load_time_limit = 2 * 30.0

    def predict(self, x: int) -> int:
        return sum([[((x + 1) * (y + 2))] for y in range(3)], start=[])
"""
FUNCTION = "def f{}(a, b):\n    return [[a + b for a in range(3)] for b in (1, 2, ((3), 4))]\n"


class _GivesWay:
    """Garbage that only the collector finds, and whose end runs Python code: there, threads take turns."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        sum(range(50))


@pytest.fixture
def quick_turns() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_many_threads_read_files_at_the_same_time(tmp_path: Path, quick_turns: None) -> None:
    (tmp_path / "model.py").write_text(FILE + "".join(FUNCTION.format(number) for number in range(200)))
    seen: list[Constants | BaseException] = []

    def read_from(depth: int) -> None:
        if depth:
            return read_from(depth - 1)
        for _ in range(8):
            garbage = [_GivesWay() for _ in range(5)]
            del garbage
            try:
                seen.append(read_constants(str(tmp_path)))
            except BaseException as error:
                seen.append(error)
        return None

    threads = [threading.Thread(target=read_from, args=(10 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [Constants("threads", 60.0, None)] * 32
