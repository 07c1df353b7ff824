"""Reaches versions that are loaded in this process, for its gatekeeper."""

import asyncio
from collections.abc import Callable, Sequence

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle, ServedVersion
from pyserving.core.servable import ServableId
from pyserving.server.aside import Aside
from pyserving.server.checks import check_answers, check_latency
from pyserving.server.gatekeeper import Check
from pyserving.server.mirror import Mirrors, OnCompared
from pyserving.server.rollout_rules import GateRules
from pyserving.validation.tolerance import Tolerance


class LocalExaminer:
    """An ``Examiner``. To be made on the event loop that answers requests."""

    def __init__(self, aside: Aside, mirrors: Mirrors, folder: Callable[[ServableId], str]) -> None:
        """``folder``: where a version was loaded from."""
        self._aside = aside
        self._mirrors = mirrors
        self._folder = folder
        self._loop = asyncio.get_running_loop()

    def check_answers(self, version: ServedVersion, rules: GateRules, check: Check) -> int:
        with _held(version) as handle:
            return check_answers(self._aside, handle, self._folder(version.id), rules, check.wanted)

    def check_latency(self, version: ServedVersion, rules: GateRules, check: Check) -> Sequence[float]:
        with _held(version) as handle:
            return check_latency(handle, self._folder(version.id), rules, check.wanted)

    def begin_mirror(self, version: ServedVersion, tolerance: Tolerance, on_compared: OnCompared) -> None:
        self._loop.call_soon_threadsafe(self._mirrors.begin, version, tolerance, on_compared)

    def end_mirror(self, version: ServedVersion) -> None:
        self._loop.call_soon_threadsafe(self._mirrors.end, version.id)

    def admit(self, version: ServedVersion, check: Check) -> None:
        """The manager does so itself."""


def _held(version: ServedVersion) -> ServableHandle:
    handle = version.hold()
    if handle is None:
        raise ServingError(Code.CANCELLED, f"Servable {version.id} is being unloaded")
    return handle
