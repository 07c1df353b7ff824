"""What a trial found out of an engine, for each signature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

from pyserving.acceleration.gate import Gate

ENOUGH_FASTER = 1.2
"""Less is within what measurements vary by, and not worth the memory of a second engine."""
_NO_SLOWER = 0.95


@dataclass(frozen=True, slots=True)
class Timing:
    """Lower quartiles, in seconds, for so many rows."""

    rows: str
    tensorflow: float
    engine: float

    @property
    def gain(self) -> float:
        return self.tensorflow / self.engine


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one engine on one signature."""

    engine: str
    refusal: str = ""
    """Why the engine must not serve the signature; empty where it may."""
    gate: Gate | None = None
    timings: Sequence[Timing] = ()
    largest_difference: float = 0.0
    """Of any element of an output, in all comparisons."""

    @property
    def gain(self) -> float:
        """How many times as fast as TensorFlow, the geometric mean over ``timings``."""
        return exp(sum(log(timing.gain) for timing in self.timings) / len(self.timings)) if self.timings else 0.0

    @property
    def objection(self) -> str:
        """Why it is not used: it is refused, or not faster. Empty where it may be used."""
        if self.refusal or self.gate is None:
            return self.refusal or "it was not tried"
        slow = [timing for timing in self.timings if timing.gain < _NO_SLOWER]
        if slow or self.gain < ENOUGH_FASTER:
            times = ", ".join(f"{timing.gain:.2f} x with {timing.rows}" for timing in self.timings)
            return f"not faster: {times}"
        return ""

    def to_json(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "refusal": self.refusal,
            "gate": self.gate.to_json() if self.gate else None,
            "timings": [[timing.rows, timing.tensorflow, timing.engine] for timing in self.timings],
            "largest_difference": self.largest_difference,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Verdict":
        """Raises KeyError, TypeError or ValueError for what ``to_json`` did not make."""
        return cls(
            engine=str(fields["engine"]),
            refusal=str(fields["refusal"]),
            gate=Gate.from_json(fields["gate"]) if fields["gate"] else None,
            timings=tuple(Timing(str(rows), float(a), float(b)) for rows, a, b in fields["timings"]),
            largest_difference=float(fields["largest_difference"]),
        )


def best(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The fastest that may be used; None where TensorFlow stays."""
    usable = [verdict for verdict in verdicts if not verdict.objection]
    return max(usable, key=lambda verdict: verdict.gain, default=None)
