"""Threads that models share: each has its turn, however much of another waits.

- A model of which nothing runs never waits for the calls of others: it gets a thread beside the common ones.
- Of several that wait for a common thread, those of higher priority go first, then the model whose calls took the
  least time by now. A model that was idle has no credit from that.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

from pyserving.batching.priority import Priority

Job = Callable[[], None]

RESERVE = 24
"""Threads beside the common ones, for models of which nothing runs; they are started when they are needed."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Share:
    """What one model has of the threads. It belongs to the FairThreads that it is given to."""

    running: int = 0
    used: float = 0.0
    """Seconds of its calls, and what it was charged for being idle."""
    mean: float = 0.0
    """Seconds a call takes, about."""
    waiting: tuple[deque[tuple[Job, Job]], ...] = field(default_factory=lambda: tuple(deque() for _ in Priority))

    def first(self) -> Priority | None:
        """The priority of what is next."""
        for priority in Priority:
            if self.waiting[priority]:
                return priority
        return None

    @property
    def charge(self) -> float:
        return self.used + self.running * self.mean


class FairThreads:
    """Runs jobs. Any thread may call."""

    def __init__(self, num_threads: int, reserve: int = RESERVE, initializer: Callable[[], None] | None = None) -> None:
        """``num_threads`` are common to all; ``initializer`` is called at the start of each thread."""
        self._num_threads = num_threads
        self._reserve = reserve
        self._pool = ThreadPoolExecutor(num_threads + reserve, thread_name_prefix="engine", initializer=initializer)
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: dict[int, Share] = {}
        """Those of which something waits, by identity."""
        self._floor = 0.0
        """The least that a share is charged that begins now."""
        self._stopped = False

    def submit(self, share: Share, priority: Priority, job: Job, dropped: Job) -> None:
        """Runs ``job``, which raises nothing, when it is its turn. ``dropped`` is called instead if that never comes.

        Raises RuntimeError after ``stop``.
        """
        with self._lock:
            if self._stopped:
                raise RuntimeError("no job is taken after stop()")
            if not share.running and id(share) not in self._waiting:
                share.used = max(share.used, self._floor)
            if id(share) in self._waiting or not self._may_run(share):
                share.waiting[priority].append((job, dropped))
                self._waiting[id(share)] = share
                return
            self._take(share)
        try:
            self._pool.submit(self._work, share, job)
        except RuntimeError:  # stopped since, or the interpreter ends
            with self._lock:
                self._give_back(share)
            raise

    def stop(self) -> None:
        """Takes no more jobs; what waits is dropped, what runs goes on to its end."""
        with self._lock:
            self._stopped = True
            shares = list(self._waiting.values())
            self._waiting.clear()
        for share in shares:
            for line in share.waiting:
                while line:
                    line.popleft()[1]()
        self._pool.shutdown(wait=False)

    def _work(self, share: Share, job: Job) -> None:
        following: tuple[Share, Job] | None = (share, job)
        del job
        while following:
            share, run = following
            start = perf_counter()
            try:
                run()
            finally:
                del run, following  # a job holds on to its request
                seconds = perf_counter() - start
                with self._lock:
                    self._give_back(share)
                    share.used += seconds
                    share.mean += 0.2 * (seconds - share.mean)
                    following = self._next()

    # All below is under the lock

    def _may_run(self, share: Share) -> bool:
        if self._running < self._num_threads:
            return True
        return not share.running and self._running < self._num_threads + self._reserve

    def _take(self, share: Share) -> None:
        self._running += 1
        share.running += 1

    def _give_back(self, share: Share) -> None:
        self._running -= 1
        share.running -= 1

    def _next(self) -> tuple[Share, Job] | None:
        best: tuple[tuple[int, float], Share, Priority] | None = None
        for share in self._waiting.values():
            priority = share.first()
            if priority is not None and self._may_run(share):
                order = (priority, share.charge)
                if best is None or order < best[0]:
                    best = (order, share, priority)
        if best is None:
            return None
        _, share, priority = best
        job, _ = share.waiting[priority].popleft()
        if share.first() is None:
            del self._waiting[id(share)]
        self._floor = max(self._floor, share.used)
        self._take(share)
        return share, job
