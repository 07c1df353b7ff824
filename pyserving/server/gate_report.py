"""What came of the checks of a version so far, for people to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
        return asdict(self)


GateReport = Sequence[CheckReport]
"""Of one version, in the order of its checks. Checks that found nothing to look at are left out."""
GateReports = Mapping[ServableId, GateReport]


def with_report(reports: GateReports, servable: ServableId, report: GateReport) -> dict[ServableId, GateReport]:
    """``reports`` and one more as the latest; of each model so many are kept, and none that is empty."""
    others = {other: one for other, one in reports.items() if other != servable}
    for older in [other for other in others if other.name == servable.name][: -(_KEPT - 1)]:
        del others[older]
    return {**others, servable: report} if report else others
