"""Copies of answered requests go to another version, whose answers are compared: for its gate, or as shadow traffic."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyserving.api.recorded import answer_recorded
from pyserving.api.request_log import LogType, RequestAndResponse
from pyserving.api.tap import Tap
from pyserving.core.errors import ServingError
from pyserving.core.handle import ServableHandle, ServedVersion
from pyserving.core.servable import ServableId
from pyserving.monitoring.metrics import Gauge, Labels, Registry
from pyserving.server.aside import Aside
from pyserving.server.directory import Directory
from pyserving.server.rollout_rules import MirrorRule, traffic_rules
from pyserving.sources.model_config import ModelConfig
from pyserving.validation.comparison import differences
from pyserving.validation.report import Tally
from pyserving.validation.samples import Method, parse_answer, parse_request
from pyserving.validation.tolerance import Tolerance

MAX_WAITING = 16
"""So many copies may wait to be answered; what comes beyond is dropped."""
ANSWER_SECONDS = 30.0
"""So long one may take."""

OnCompared = Callable[[Tally], None]
"""Told of each answer, on any thread: a Tally of that one."""

logger = logging.getLogger("pyserving.server")


class Mirror:
    """A Tap that sends copies to one version. Clients wait for nothing but a copy's being put in line."""

    def __init__(
        self,
        aside: Aside,
        acquire: Callable[[], ServableHandle | None],
        fraction: float,
        tolerance: Tolerance,
        on_compared: OnCompared,
    ) -> None:
        """``acquire``: a handle on that version, None where it cannot be had now."""
        self._aside = aside
        self._acquire = acquire
        self._fraction = fraction
        self._tolerance = tolerance
        self._on_compared = on_compared
        # Without a lock: each of these is changed by one thread alone.
        self._taken = 0
        self._done = 0
        self.dropped = 0

    def add(
        self,
        kind: LogType,
        servable: ServableId,
        signature_name: str,  # noqa: ARG002 - the request has it
        messages_of: Callable[[], RequestAndResponse],
    ) -> None:
        if self._fraction < 1 and random.random() >= self._fraction:
            return
        if self._taken - self._done >= MAX_WAITING:
            self.dropped += 1
            return
        try:
            self._aside.run(self._ask(Method[kind.name], servable, messages_of))
        except ServingError:  # the server is stopping
            return
        self._taken += 1

    def stream(self, servable: ServableId, signature_name: str) -> None:
        """Answers that stream are not compared: they may be large, or have no end."""

    async def _ask(self, method: Method, servable: ServableId, messages_of: Callable[[], RequestAndResponse]) -> None:
        try:
            handle = self._acquire()
            if handle is not None:
                with handle:
                    if handle.id != servable:
                        await self._compare(handle, method, messages_of)
        except Exception:
            logger.exception("A copy of a request to %s could not be compared", servable)
        finally:
            self._done += 1

    async def _compare(
        self, handle: ServableHandle, method: Method, messages_of: Callable[[], RequestAndResponse]
    ) -> None:
        request, response = messages_of()
        name = f"a request to version {handle.id.version}"
        tally = Tally()
        start = time.monotonic()
        try:
            message = parse_request(method, request)
            answer = await answer_recorded(self._aside.prediction, handle, method, message, start + ANSWER_SECONDS)
            tally.seconds.append(time.monotonic() - start)
            expected = parse_answer(method, [response])
            tally.add(name, differences(expected, parse_answer(method, answer), self._tolerance))
        except ServingError as error:
            tally.add_failure(name, str(error))
        self._on_compared(tally)


class Mirrors:
    """All of a server's, by model. Used on the event loop that answers requests."""

    def __init__(self, directory: Directory, aside: Aside, registry: Registry, changed: Callable[[], None]) -> None:
        """``changed`` is called when a model has other mirrors than before."""
        self._directory = directory
        self._aside = aside
        self._changed = changed
        self._shadows: dict[str, tuple[MirrorRule, Mirror, Tally]] = {}
        self._candidates: dict[ServableId, Mirror] = {}
        self._totals: dict[Labels, float] = {}
        registry.add(
            Gauge("pyserving_shadow_answers_total", ["model_name", "outcome"], self._outcomes, only_grows=True)
        )

    def taps(self, name: str) -> list[Tap]:
        """What looks on at the answers of a model."""
        taps: list[Tap] = [mirror for servable, mirror in self._candidates.items() if servable.name == name]
        return [*taps, self._shadows[name][1]] if name in self._shadows else taps

    def configure(self, models: Iterable[ModelConfig]) -> None:
        """Shadow traffic as these say. What was counted so far stays where nothing changed."""
        rules = {model.name: traffic_rules(model.options.traffic).mirror for model in models}
        for name in [name for name, (rule, _, _) in self._shadows.items() if rules.get(name) != rule]:
            self._forget(name)
        for name, rule in rules.items():
            if rule is not None and name not in self._shadows:
                tally = Tally()
                self._shadows[name] = rule, self._shadow(name, rule, tally), tally

    def begin(self, candidate: ServedVersion, tolerance: Tolerance, on_compared: OnCompared) -> None:
        """From now on copies of all requests to a model go to this version of it, too."""
        self._candidates[candidate.id] = Mirror(self._aside, candidate.hold, 1.0, tolerance, on_compared)
        self._changed()

    def end(self, candidate: ServableId) -> None:
        if self._candidates.pop(candidate, None):
            self._changed()

    def report(self, name: str) -> Mapping[str, Any]:
        """What came of the shadow traffic of a model; empty where it has none."""
        if name not in self._shadows:
            return {}
        rule, mirror, tally = self._shadows[name]
        target = f"version {rule.version}" if rule.label is None else f"label {rule.label}"
        return {"target": target, **tally.to_json(), "dropped": mirror.dropped}

    def _shadow(self, name: str, rule: MirrorRule, tally: Tally) -> Mirror:
        def acquire() -> ServableHandle | None:
            directory = self._directory
            try:
                version = rule.version if rule.label is None else directory.labels.resolve(name, rule.label)
                return directory.serving.acquire(name, version)
            except ServingError:
                return None

        return Mirror(self._aside, acquire, rule.fraction, rule.tolerance, tally.merge)

    def _forget(self, name: str) -> None:
        for labels, count in self._counts(name).items():
            self._totals[labels] = self._totals.get(labels, 0) + count
        del self._shadows[name]

    def _outcomes(self) -> dict[Labels, float]:
        totals = dict(self._totals)
        for name in self._shadows:
            for labels, count in self._counts(name).items():
                totals[labels] = totals.get(labels, 0) + count
        return totals

    def _counts(self, name: str) -> dict[Labels, float]:
        _, mirror, tally = self._shadows[name]
        return {
            (name, "agreed"): tally.agreed,
            (name, "differed"): tally.differed,
            (name, "failed"): tally.failed,
            (name, "dropped"): mirror.dropped,
        }
