"""Code that may never return."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T], *, late: Callable[[T], None]) -> T:
    """What ``call`` returns or raises, on a thread of its own.

    Raises TimeoutError if that takes longer. A thread cannot be stopped: it goes on, and what it returns in the end
    is given to ``late``. A TimeoutError of its own is raised as a RuntimeError.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            try:
                own = RuntimeError(f"TimeoutError: {error}") if isinstance(error, TimeoutError) else error
                future.set_exception(own)
            except InvalidStateError:
                pass  # nobody waits for it any more
            return
        try:
            future.set_result(result)
        except InvalidStateError:
            late(result)

    threading.Thread(target=run, name="python-code", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.cancel():
            raise
        return future.result()
