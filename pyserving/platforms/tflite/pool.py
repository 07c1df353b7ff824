"""The interpreters of one model, and who has them."""

import threading
from collections.abc import Callable

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.tflite.interpreter import Interpreter, Shapes


class InterpreterPool:
    """Lends interpreters, each to one run at a time.

    They are made when all others are busy, up to ``size``, since each packs the weights anew: a server with many
    CPUs and few requests should not hold them many times.
    """

    def __init__(self, make: Callable[[], Interpreter], size: int, *, keeps_state: bool) -> None:
        """``keeps_state``: what a run changes should be seen by the next, so there must be but one, and no other."""
        self._make = make
        self._size = 1 if keeps_state else size
        self._keeps_state = keeps_state
        self._idle = [make()]
        self._made = 1
        self._changed = threading.Condition()

    def take(self, subgraph: int, shapes: Shapes, *, timeout: float | None, inline: bool) -> Interpreter:
        """An interpreter, if possible one that was last used with these shapes. It must be given back.

        Waits until there is one, for at most ``timeout`` seconds: DEADLINE_EXCEEDED. ``inline``: rather makes one
        more than wait, for the caller is an event loop that must not stand still.
        """
        may_make_more = inline and not self._keeps_state
        with self._changed:
            if not self._changed.wait_for(lambda: self._idle or self._made < self._size or may_make_more, timeout):
                raise ServingError(
                    Code.DEADLINE_EXCEEDED, f"all {self._made} interpreters of the model were busy for {timeout:.3f} s"
                )
            if self._idle:
                return self._pick(subgraph, shapes)
            self._made += 1
        try:
            return self._make()
        except BaseException:
            with self._changed:
                self._made -= 1
                self._changed.notify()
            raise

    def give_back(self, interpreter: Interpreter) -> None:
        """Lends it to the next one, or drops it, where it is worn out or one too many."""
        with self._changed:
            if self._made > self._size or (interpreter.worn_out and not self._keeps_state):
                self._made -= 1
            else:
                self._idle.append(interpreter)
            self._changed.notify()

    def close(self) -> None:
        """Drops all interpreters. None may be lent."""
        self._idle.clear()

    def _pick(self, subgraph: int, shapes: Shapes) -> Interpreter:
        for position in reversed(range(len(self._idle))):
            if self._idle[position].has_shapes(subgraph, shapes):
                return self._idle.pop(position)
        return self._idle.pop()
