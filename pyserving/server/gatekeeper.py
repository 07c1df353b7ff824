"""Lets versions become available as their model's config says: the ``Gate`` of a server's manager."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServedVersion
from pyserving.core.servable import ServableId
from pyserving.monitoring.metrics import Gauge, Labels, Registry
from pyserving.server.gate_report import CheckReport, GateReport, Outcome
from pyserving.server.rollout_rules import GateRules, ShadowRule
from pyserving.validation.report import Tally
from pyserving.validation.tolerance import Tolerance

ANSWERS, LATENCY, SHADOW = "answers", "latency", "shadow"
_PROGRESS_SECONDS = 0.5
"""Between two reports of how far a check has come."""

logger = logging.getLogger("pyserving.server")


class Check:
    """A check that is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = True
        self._callbacks: list[Callable[[], None]] = []

    def wanted(self) -> bool:
        """False once the version need not be checked any more."""
        return self._wanted

    def on_give_up(self, callback: Callable[[], None]) -> None:
        """``callback`` is called once the version is not wanted any more; at once if that is so already."""
        with self._lock:
            if self._wanted:
                self._callbacks.append(callback)
                return
        callback()

    def give_up(self) -> None:
        with self._lock:
            self._wanted = False
        for callback in self._callbacks:
            callback()


class Examiner(Protocol):
    """Reaches versions where they are loaded: in this process, or in workers. Called on threads that may wait."""

    def check_answers(self, version: ServedVersion, rules: GateRules, check: Check) -> int:
        """See ``checks.check_answers``."""
        ...

    def check_latency(self, version: ServedVersion, rules: GateRules, check: Check) -> Sequence[float]:
        """See ``checks.check_latency``."""
        ...

    def begin_mirror(self, version: ServedVersion, tolerance: Tolerance, on_compared: Callable[[Tally], None]) -> None:
        """From now on the version gets copies of requests, and ``on_compared`` is told what came of them."""
        ...

    def end_mirror(self, version: ServedVersion) -> None: ...

    def admit(self, version: ServedVersion, check: Check) -> None:
        """Requests may see the version from now on. Raises ServingError where they must not."""
        ...


class Gatekeeper:
    """Has an examiner look at each version, and judges what it finds."""

    def __init__(
        self,
        examiner: Examiner,
        rules: Callable[[str], GateRules],
        current: Callable[[str], int | None],
        served_before: Callable[[ServableId], bool],
        registry: Registry,
        report: Callable[[ServableId, GateReport], object],
    ) -> None:
        """``rules`` of a model; ``current``: the version that its requests get now, if they get one. ``report`` is told
        what was found of a version, and how far its checks have come, on any thread.

        A version that ``served_before`` is not checked again: who rolls back has no time.
        """
        self._examiner = examiner
        self._rules = rules
        self._current = current
        self._served_before = served_before
        self._report = report
        self._checks: dict[ServableId, Check] = {}
        self._given_up: set[ServableId] = set()
        self._lock = threading.Lock()
        self._outcomes: Counter[Labels] = Counter()
        registry.add(
            Gauge(
                "pyserving_gate_checks_total",
                ["model_name", "check", "outcome"],
                lambda: dict(self._outcomes),
                only_grows=True,
            )
        )

    def check(self, version: ServedVersion) -> None:
        """Raises FAILED_PRECONDITION where the version must not be available, CANCELLED where it was given up."""
        check = self._begin(version.id)
        try:
            if not self._served_before(version.id):
                self._examine(version, self._rules(version.id.name), check)
            self._examiner.admit(version, check)
        finally:
            with self._lock:
                del self._checks[version.id]
                self._given_up.discard(version.id)

    def _examine(self, version: ServedVersion, rules: GateRules, check: Check) -> None:
        report = _Report(lambda found: self._report(version.id, found))
        self._judge(version, ANSWERS, check, report, lambda: self._check_answers(version, rules, check))
        self._judge(version, LATENCY, check, report, lambda: self._check_latency(version, rules, check))
        if rules.shadow is not None:
            shadow = rules.shadow
            self._judge(
                version, SHADOW, check, report, lambda: self._shadow(version, shadow, rules.tolerance, check, report)
            )

    def give_up(self, servable_id: ServableId) -> None:
        with self._lock:
            self._given_up.add(servable_id)
            if check := self._checks.get(servable_id):
                check.give_up()

    def _begin(self, servable_id: ServableId) -> Check:
        check = Check()
        with self._lock:
            self._checks[servable_id] = check
            if servable_id in self._given_up:
                check.give_up()
        return check

    def _judge(
        self, version: ServedVersion, name: str, check: Check, report: "_Report", work: Callable[[], str]
    ) -> None:
        """``work`` says what it found, and nothing where there was nothing to check."""
        if not check.wanted():
            raise ServingError(Code.CANCELLED, "the version is wanted no more")
        try:
            if found := work():
                self._outcomes[version.id.name, name, "passed"] += 1
                report.tell(name, Outcome.PASSED, found)
        except ServingError as error:
            if error.code is Code.CANCELLED:
                report.withdraw(name)
                raise
            self._outcomes[version.id.name, name, "refused"] += 1
            report.tell(name, Outcome.REFUSED, error.message)
            # Whatever went wrong: it would go wrong again.
            raise ServingError(Code.FAILED_PRECONDITION, f"refused by its check of {name}: {error.message}") from None

    def _check_answers(self, version: ServedVersion, rules: GateRules, check: Check) -> str:
        count = self._examiner.check_answers(version, rules, check)
        if not count:
            return ""
        logger.info("%s answers %d golden requests as expected", version.id, count)
        return f"{count} golden requests answered as expected"

    def _check_latency(self, version: ServedVersion, rules: GateRules, check: Check) -> str:
        medians = self._examiner.check_latency(version, rules, check)
        return f"median {max(medians) * 1e3:.3g} ms, within the budget" if medians else ""

    def _shadow(
        self, version: ServedVersion, rule: ShadowRule, tolerance: Tolerance, check: Check, report: "_Report"
    ) -> str:
        current = self._current(version.id.name)
        if current is None:
            logger.info("%s is not compared with live traffic: no version answers requests yet", version.id)
            return ""
        tally = Tally()
        lock = threading.Lock()
        over = threading.Event()

        def decided() -> bool:
            too_many = tally.differed + tally.failed > rule.max_disagreement * rule.requests
            return too_many or tally.compared >= rule.requests

        def on_compared(one: Tally) -> None:
            with lock:
                if not over.is_set():
                    tally.merge(one)
                    if decided():
                        over.set()
                    else:
                        report.progress(SHADOW, lambda: _progress(tally, rule.requests))

        logger.info("%s gets copies of requests until %d answers are compared", version.id, rule.requests)
        report.tell(SHADOW, Outcome.RUNNING, _progress(tally, rule.requests))
        check.on_give_up(over.set)
        self._examiner.begin_mirror(version, tolerance, on_compared)
        try:
            over.wait(rule.seconds)
        finally:
            self._examiner.end_mirror(version)
        with lock:
            over.set()  # an answer that comes late changes no verdict, nor what is told of it
            if not check.wanted():
                raise ServingError(Code.CANCELLED, "the version is wanted no more")
            if not decided():
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"only {tally.compared} of {rule.requests} requests to compare came within {rule.seconds:g} s",
                )
            wrong = tally.differed + tally.failed
            if wrong > rule.max_disagreement * rule.requests:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"{wrong} of {tally.compared} answers to live requests were not those of version {current}; "
                    f"{tally.examples[0].texts[0]}",
                )
        logger.info("%s answered %d live requests as version %d did", version.id, tally.agreed, current)
        others = f", {wrong} did not agree" if wrong else ""
        return f"{tally.agreed} live requests answered as version {current} did{others}"


class _Report:
    """What was found of one version. Any thread may call."""

    def __init__(self, tell: Callable[[GateReport], object]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._found: dict[str, CheckReport] = {}
        self._told = float("-inf")

    def tell(self, check: str, outcome: Outcome, text: str) -> None:
        with self._lock:
            self._found[check] = CheckReport(check, outcome, text)
            self._told = time.monotonic()
            found = tuple(self._found.values())
        self._tell(found)

    def withdraw(self, check: str) -> None:
        """It will have no outcome."""
        with self._lock:
            if self._found.pop(check, None) is None:
                return
            found = tuple(self._found.values())
        self._tell(found)

    def progress(self, check: str, text: Callable[[], str]) -> None:
        """Now and then: a check may come on thousands of times a second."""
        if time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self.tell(check, Outcome.RUNNING, text())


def _progress(tally: Tally, wanted: int) -> str:
    wrong = tally.differed + tally.failed
    return f"{tally.compared} of {wanted} live requests compared" + (f", {wrong} did not agree" if wrong else "")
