"""What came of the checks of a version so far, for people to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pyserving.core.servable import ServableId

_KEPT = 10
"""Versions of a model whose reports are kept: the latest that were checked."""


class Outcome(StrEnum):
    RUNNING = "running"
    PASSED = "passed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Of one check of one version."""

    check: str
    """``answers``, ``latency`` or ``shadow``."""
    outcome: Outcome
    text: str
    """What was found so far, in words; may be empty."""

    def to_json(self) -> dict[str, str]:
        return {"check": self.check, "outcome": self.outcome, "text": self.text}


GateReport = Sequence[CheckReport]
"""Of one version, in the order of its checks. Checks that found nothing to look at are left out."""
GateReports = Mapping[str, Mapping[int, GateReport]]
"""By model and version; of each model, those that were checked last come last."""


def with_report(reports: GateReports, servable: ServableId, report: GateReport) -> GateReports:
    """``reports`` and one more as the latest; of each model so many are kept, and none that is empty."""
    others = reports.get(servable.name, {}).items()
    of_model = {version: one for version, one in others if version != servable.version}
    if report:
        of_model[servable.version] = report
    return {**reports, servable.name: dict(list(of_model.items())[-_KEPT:])}
