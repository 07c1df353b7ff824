"""What is told of a check stays true when answers come after its end."""

from collections.abc import Sequence

import pytest

from pyserving.core.errors import ServingError
from pyserving.core.handle import ServedVersion
from pyserving.core.servable import ServableId
from pyserving.monitoring.metrics import Registry
from pyserving.server import gatekeeper
from pyserving.server.gate_report import CheckReport, GateReport, Outcome
from pyserving.server.gatekeeper import Check, Gatekeeper
from pyserving.server.mirror import OnCompared
from pyserving.server.rollout_rules import GateRules, ShadowRule
from pyserving.validation.report import Tally
from pyserving.validation.tolerance import Tolerance


class SlowVersion:
    """An ``Examiner`` of a version whose answers take longer than its check."""

    def __init__(self) -> None:
        self.compared: list[OnCompared] = []

    def check_answers(self, version: ServedVersion, rules: GateRules, check: Check) -> int:
        return 0

    def check_latency(self, version: ServedVersion, rules: GateRules, check: Check) -> Sequence[float]:
        return []

    def begin_mirror(self, version: ServedVersion, tolerance: Tolerance, on_compared: OnCompared) -> None:
        self.compared.append(on_compared)

    def end_mirror(self, version: ServedVersion) -> None: ...

    def admit(self, version: ServedVersion, check: Check) -> None: ...


def test_an_answer_that_comes_too_late_does_not_set_a_refused_check_going_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gatekeeper, "_PROGRESS_SECONDS", 0.0)
    version = ServedVersion(ServableId("m", 2), object(), lambda: None)
    examiner, told = SlowVersion(), list[GateReport]()
    rules = GateRules(shadow=ShadowRule(requests=5, max_disagreement=0.0, seconds=0.01))
    gate = Gatekeeper(
        examiner, lambda _: rules, lambda _: 1, lambda _: False, Registry(), lambda _, report: told.append(report)
    )
    with pytest.raises(ServingError, match="only 0 of 5 requests"):
        gate.check(version)
    (on_compared,) = examiner.compared
    on_compared(Tally(agreed=1))
    text = "only 0 of 5 requests to compare came within 0.01 s"
    assert told[-1] == (CheckReport("shadow", Outcome.REFUSED, text),)
