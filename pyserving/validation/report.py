"""What came of comparing many answers."""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST_EXAMPLES = 10
"""Of what differed, so many are kept to be shown."""
MOST_TIMES = 100_000
QUANTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Example:
    """A request whose answer was not the one that is expected."""

    request: str
    """Which one, for people: ``record 3 of log.tfrecord``."""
    texts: Sequence[str]


@dataclass(slots=True)
class Tally:
    """How many answers agreed, of all or of one kind of request."""

    agreed: int = 0
    differed: int = 0
    failed: int = 0
    """Requests that were not answered, though one of the two sides could."""
    unchecked: int = 0
    """Answered, and there was nothing to compare with."""
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_TIMES))
    """How long each of the last answers took."""
    other_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_TIMES))
    """The same of what it was compared with, where that was asked, too."""
    examples: list[Example] = field(default_factory=list)

    @property
    def compared(self) -> int:
        return self.agreed + self.differed + self.failed

    @property
    def disagreement(self) -> float:
        """The share of what was compared that differed or failed; 0 where nothing was."""
        return (self.differed + self.failed) / self.compared if self.compared else 0.0

    def add(self, request: str, texts: Sequence[str]) -> None:
        """An answer was compared; ``texts`` say what is wrong with it, if anything."""
        if texts:
            self.differed += 1
            self._keep(request, texts)
        else:
            self.agreed += 1

    def add_failure(self, request: str, text: str) -> None:
        self.failed += 1
        self._keep(request, [text])

    def merge(self, other: "Tally") -> None:
        """Adds what another one has."""
        self.agreed += other.agreed
        self.differed += other.differed
        self.failed += other.failed
        self.unchecked += other.unchecked
        self.seconds += other.seconds
        self.other_seconds += other.other_seconds
        self.examples += other.examples[: MOST_EXAMPLES - len(self.examples)]

    def to_json(self) -> dict[str, Any]:
        """Times in milliseconds."""
        shown: dict[str, Any] = {
            "requests": self.compared + self.unchecked,
            "agreed": self.agreed,
            "differed": self.differed,
            "failed": self.failed,
            "unchecked": self.unchecked,
            "latency_ms": milliseconds(self.seconds),
        }
        if self.other_seconds:
            shown["against_latency_ms"] = milliseconds(self.other_seconds)
        shown["examples"] = [{"request": one.request, "differences": list(one.texts)} for one in self.examples]
        return shown

    def _keep(self, request: str, texts: Sequence[str]) -> None:
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(Example(request, texts))


def milliseconds(seconds: Collection[float]) -> dict[str, float]:
    """Quantiles and the most, in milliseconds; none where nothing was measured."""
    if not seconds:
        return {}
    values = np.percentile(np.fromiter(seconds, float) * 1e3, QUANTILES)
    quantiles = {f"p{quantile}": float(value) for quantile, value in zip(QUANTILES, values, strict=True)}
    return quantiles | {"max": max(seconds) * 1e3}
