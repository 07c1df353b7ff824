"""Reaches versions that workers have loaded, for the gatekeeper of their supervisor."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from pyserving.core.handle import ServedVersion
from pyserving.core.servable import ServableId
from pyserving.server.control import BeginMirror, CheckAnswers, CheckLatency, EndMirror, GiveUpCheck
from pyserving.server.crew import Crew
from pyserving.server.folder import Folder
from pyserving.server.gatekeeper import Check
from pyserving.server.mirror import OnCompared
from pyserving.server.rollout_rules import GateRules
from pyserving.validation.report import Tally
from pyserving.validation.tolerance import Tolerance

T = TypeVar("T")


class CrewExaminer:
    """An ``Examiner``. One worker answers golden requests, for all have loaded the same; live requests come to all."""

    def __init__(self, crew: Crew, loop: asyncio.AbstractEventLoop, folder: Callable[[ServableId], Folder]) -> None:
        self._crew = crew
        self._loop = loop
        self._folder = folder
        self._on_compared: dict[ServableId, OnCompared] = {}

    def check_answers(self, version: ServedVersion, rules: GateRules, check: Check) -> int:
        count: int = self._ask(version, CheckAnswers(version.id, rules), check)
        return count

    def check_latency(self, version: ServedVersion, rules: GateRules, check: Check) -> Sequence[float]:
        medians: Sequence[float] = self._ask(version, CheckLatency(version.id, rules), check)
        return medians

    def begin_mirror(self, version: ServedVersion, tolerance: Tolerance, on_compared: OnCompared) -> None:
        self._on_compared[version.id] = on_compared
        self._loop.call_soon_threadsafe(self._crew.tell_all, BeginMirror(version.id, tolerance))

    def end_mirror(self, version: ServedVersion) -> None:
        self._on_compared.pop(version.id, None)
        self._loop.call_soon_threadsafe(self._crew.tell_all, EndMirror(version.id))

    def compared(self, servable: ServableId, tally: Tally) -> None:
        """A worker tells what came of a copy of a request."""
        if on_compared := self._on_compared.get(servable):
            on_compared(tally)

    def admit(self, version: ServedVersion, check: Check) -> None:  # noqa: ARG002
        self._wait(self._crew.serve(version.id, self._folder(version.id)))

    def _ask(self, version: ServedVersion, question: object, check: Check) -> Any:
        def give_up() -> None:
            self._loop.call_soon_threadsafe(self._crew.tell_all, GiveUpCheck(version.id))

        check.on_give_up(give_up)
        return self._wait(self._crew.ask_one(version.id, question))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
