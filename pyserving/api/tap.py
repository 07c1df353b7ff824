"""What may look on as requests of a model are answered: logs, and copies that go to other versions."""

from collections.abc import Callable, Sequence
from typing import Protocol

from pyserving.api.request_log import LogType, ModelLog, RequestAndResponse, StreamLog
from pyserving.core.servable import ServableId


class Tap(Protocol):
    """Called after an answer was computed and before it is sent: it has to return at once, and raises nothing."""

    def add(
        self,
        kind: LogType,
        servable: ServableId,
        signature_name: str,
        messages_of: Callable[[], RequestAndResponse],
    ) -> None:
        """``servable`` has answered. ``messages_of`` may be called later, on any thread."""
        ...

    def stream(self, servable: ServableId, signature_name: str) -> StreamLog | None:
        """What takes the pieces of an answer that streams, if anything does."""
        ...


class Taps:
    """Several at once. Answers that stream are only logged."""

    def __init__(self, log: ModelLog | None, others: Sequence[Tap]) -> None:
        self._log = log
        self._all: Sequence[Tap] = others if log is None else (log, *others)

    def add(
        self,
        kind: LogType,
        servable: ServableId,
        signature_name: str,
        messages_of: Callable[[], RequestAndResponse],
    ) -> None:
        for tap in self._all:
            tap.add(kind, servable, signature_name, messages_of)

    def stream(self, servable: ServableId, signature_name: str) -> StreamLog | None:
        return None if self._log is None else self._log.stream(servable, signature_name)
