"""What is loaded in the background computes at low priority, and leaves no thread behind that has it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyserving.core.background import in_background, work_in_background
from pyserving.core.servable import ServableId
from pyserving.core.threads import Threads
from pyserving.platforms.memory import has_glibc_heaps
from pyserving.platforms.stepping_back import NICENESS, stepped_back
from pyserving.platforms.tensorflow import session
from pyserving.platforms.tensorflow.loader import TensorFlowLoader
from pyserving.platforms.tensorflow.session_config import SessionOptions

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads priorities of their own")


def niceness(thread: int = 0) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread or threading.get_native_id())


def other_niceness_left(own: int) -> set[int]:
    """Of this process's threads. One that was joined takes a moment more to leave the system's list."""
    end = time.monotonic() + 30
    while True:
        found = set()
        for thread in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):
                found.add(niceness(int(thread)))
        if found == {own} or time.monotonic() > end:
            return found - {own}
        time.sleep(0.01)


def on_marked_thread(call: Callable[[], Any]) -> Any:
    results: list[Any] = []
    threads = Threads()
    threads.spawn("test", lambda: results.append(call()))
    assert threads.join(60)
    return results[0]


def test_work_of_the_manager_is_in_the_background() -> None:
    assert not in_background()
    assert on_marked_thread(in_background)
    assert not in_background()


@linux
def test_a_call_in_the_background_has_low_priority_and_its_caller_keeps_its_own() -> None:
    own = niceness()
    inside, after = on_marked_thread(lambda: (stepped_back(niceness), niceness()))
    assert inside == min(19, own + NICENESS)
    assert after == own


def test_elsewhere_a_call_is_made_on_the_spot() -> None:
    assert stepped_back(threading.get_native_id) == threading.get_native_id()


def test_arguments_and_errors_go_through() -> None:
    assert on_marked_thread(lambda: stepped_back(divmod, 7, 2)) == (3, 1)

    def fails() -> str:
        with pytest.raises(ZeroDivisionError):
            stepped_back(divmod, 7, 0)
        return "raised"

    assert on_marked_thread(fails) == "raised"


@pytest.mark.skipif(not has_glibc_heaps(), reason="heaps of threads are glibc's")
def test_a_call_in_the_background_leaves_the_main_heap_to_the_event_loop() -> None:
    # In a process of its own: glibc has but so many heaps, and threads of other tests may have taken them all.
    program = """
from pyserving.core.threads import Threads
from pyserving.platforms.memory import heap_of_thread
from pyserving.platforms.stepping_back import stepped_back
assert not heap_of_thread()
threads = Threads()
threads.spawn("test", lambda: print(bool(stepped_back(heap_of_thread))))
assert threads.join(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True\n"


@pytest.mark.skipif(not has_glibc_heaps(), reason="heaps of threads are glibc's")
def test_a_call_in_the_background_leaves_their_heaps_to_engine_threads() -> None:
    # Two heaps beside the main one for all threads: that of an engine thread, and another one.
    program = """
import threading
from pyserving.core.threads import Threads
from pyserving.platforms.memory import claim_heap, heap_of_thread
from pyserving.platforms.stepping_back import stepped_back
barrier = threading.Barrier(3)
held = {}
def hold(name):
    held[name] = heap_of_thread()
    if name == "engine":
        claim_heap()
    barrier.wait()
    barrier.wait()
for name in ("engine", "other"):
    threading.Thread(target=hold, args=(name,), daemon=True).start()
barrier.wait()
assert held["engine"] and held["other"] and held["engine"] != held["other"], held
found = []
threads = Threads()
for _ in range(20):
    threads.spawn("test", lambda: found.append(stepped_back(heap_of_thread)))
    assert threads.join(60)
assert set(found) == {held["other"]}, (held, found)
"""
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        timeout=60,
        env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.arena_max=3"},
    )


@linux
@pytest.mark.tensorflow
def test_tensorflow_loads_at_low_priority_and_leaves_its_threads_as_they_were(
    models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, int]] = []

    def watched(call: Callable[..., Any], *arguments: Any) -> Any:
        def watch() -> Any:
            called.append((threading.current_thread().name, niceness()))
            return call(*arguments)

        return stepped_back(watch)

    monkeypatch.setattr(session, "stepped_back", watched)
    own = niceness()
    loader = TensorFlowLoader(
        ServableId("half_plus_two", 1), str(models_folder / "half_plus_two" / "00000123"), SessionOptions()
    )
    model = on_marked_thread(loader.load)
    try:
        # The load itself, and at least one signature's first run.
        assert len(called) >= 2
        assert {nice for _, nice in called} == {min(19, own + NICENESS)}
        assert other_niceness_left(own) == set()
        called.clear()
        signature = model.signatures["serving_default"]
        x = np.array([[2.0]], np.float32)
        # Of those who ask, only who is in the background steps back.
        assert model.run(signature, {"x": x}, ["y"])[0] == [[3.0]]
        assert called == []
        assert on_marked_thread(lambda: model.run(signature, {"x": x}, ["y"]))[0] == [[3.0]]
        assert len(called) == 1
    finally:
        loader.unload()


@linux
@pytest.mark.tensorflow
def test_a_session_with_threads_of_its_own_starts_them_at_the_usual_priority(
    models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = niceness()
    options = SessionOptions(config=b"\x48\x01")  # use_per_session_threads
    assert options.config_proto().use_per_session_threads
    path = str(models_folder / "half_plus_two" / "00000123")
    loader = TensorFlowLoader(ServableId("half_plus_two", 1), path, options)
    on_marked_thread(loader.load)
    try:
        assert other_niceness_left(own) == set()
    finally:
        loader.unload()


def test_a_marked_thread_is_marked_alone() -> None:
    marked: list[bool] = []

    def mark() -> None:
        work_in_background()
        marked.append(in_background())

    thread = threading.Thread(target=mark)
    thread.start()
    thread.join()
    assert marked == [True]
    assert not in_background()
