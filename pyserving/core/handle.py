"""Keeps a version loaded while a request uses it."""

from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Any

from pyserving.core.servable import ServableId


class ServableHandle:
    """A reference to a servable, to be released once it is no longer used. A context manager.

    Any thread may release it. To release twice does no harm, to forget it keeps the version loaded for ever.
    """

    __slots__ = ("_served", "id", "servable")

    def __init__(self, served: "ServedVersion") -> None:
        self.id = served.id
        # Only who asked for the servable knows its type: core has none for it.
        self.servable: Any = served.servable
        self._served = served

    def share(self) -> "ServableHandle":
        """A second handle, released on its own: for a job that outlives the request. Works while the version drains.

        Raises RuntimeError if this handle was released.
        """
        handle = SharedHandle(self._served)
        handles = self._served.handles
        handles.add(handle)
        if self not in handles:
            handle.release()
            raise RuntimeError(f"The handle on {self.id} was released and cannot be shared")
        return handle

    def release(self) -> None:
        served = self._served
        served.handles.discard(self)
        if served.closed:
            served.check_drained()

    def __enter__(self) -> "ServableHandle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class SharedHandle(ServableHandle):
    """One that a job has beside its request's."""

    __slots__ = ()


_uses = count(1)


class ServedVersion:
    """A version that serves, and the handles out on it.

    The handles are counted in a set, without a lock: adding and discarding are atomic, and releasing twice cannot
    count twice. What keeps a servable from being unloaded in use is the order of steps: ``hold`` adds its handle,
    then looks whether the version is closed; ``close`` closes it, then looks whether handles are there. Of the two
    at least one sees the other.
    """

    __slots__ = ("_on_drained", "closed", "handles", "id", "servable", "used")

    def __init__(self, servable_id: ServableId, servable: object, on_drained: Callable[[], None]) -> None:
        self.id = servable_id
        self.servable = servable
        self.handles: set[ServableHandle] = set()
        self.closed = False
        self.used = 0
        """When a request got it last, as a number that grows; only an EvictableVersion keeps it."""
        self._on_drained = on_drained

    def hold(self) -> ServableHandle | None:
        """A new handle; None once the version is closed."""
        handle = ServableHandle(self)
        self.handles.add(handle)
        if self.closed:
            handle.release()
            return None
        return handle

    def close(self) -> bool:
        """From now on hands out nothing. True if no handle is left.

        Otherwise ``on_drained`` is called as the last one is released, on that thread; two releases at one moment
        may both call it, and so may one that comes as this returns True.
        """
        self.closed = True
        return not self.handles

    def check_drained(self) -> None:
        if not self.handles:
            self._on_drained()


class EvictableVersion(ServedVersion):
    """One of which it is remembered when it was used last."""

    __slots__ = ()

    def hold(self) -> ServableHandle | None:
        self.used = next(_uses)
        return super().hold()
