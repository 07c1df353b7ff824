"""How many requests of the Open Inference Protocol each version answered, and how long that took.

They are counters among the server's metrics, so that those of several processes are added up.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyserving.core.servable import ServableId
from pyserving.monitoring.metrics import Counter, Family, Registry
from pyserving.protos import messages

_COUNT = "pyserving_inference_count"
_SECONDS = "pyserving_inference_seconds"
_LABELS = ("model_name", "version", "part")

SUCCESS, FAIL, INPUT, INFER, OUTPUT = "success", "fail", "compute_input", "compute_infer", "compute_output"

MAX_VERSIONS = 1000
"""Of so many versions there are statistics; one more, and those of the version that was used first are dropped."""

Collect = Callable[[], Awaitable[Sequence[Family]]]
"""Returns all metrics as they are now."""


@dataclass(slots=True)
class Watch:
    """The times of one request, in seconds."""

    input: float = 0.0
    """From its bytes to its tensors."""
    infer: float = 0.0
    """In line and in the engine."""
    output: float = 0.0
    """From the results to their bytes."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one version: by part, how often and how long (seconds)."""

    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def document(self, servable: ServableId) -> dict[str, Any]:
        """As JSON has it, and the fields of a ModelStatistics. Durations are in nanoseconds."""
        count = self.counts.get(SUCCESS, 0)
        parts = {
            part: {"count": self.counts.get(part, 0), "ns": round(self.seconds.get(part, 0.0) * 1e9)}
            for part in (SUCCESS, FAIL, INPUT, INFER, OUTPUT)
        }
        # perf_analyzer takes the version whose queue was used for the one that it measured. The time in line is part of
        # that for the engine.
        parts["queue"] = {"count": self.counts.get(INFER, 0), "ns": 0}
        return {
            "name": servable.name,
            "version": str(servable.version),
            "inference_count": count,
            "execution_count": count,
            "inference_stats": parts,
        }

    def message(self, servable: ServableId) -> messages.ModelStatistics:
        return messages.ModelStatistics(**self.document(servable))


class OipStatistics:
    """To be recorded on the event loop."""

    def __init__(self, registry: Registry, collect: Collect) -> None:
        """``collect``: the metrics of all processes of the server."""
        self._counts = registry.add(Counter(_COUNT, _LABELS))
        self._seconds = registry.add(Counter(_SECONDS, _LABELS))
        self._collect = collect
        self._used: dict[tuple[str, str], None] = {}

    def succeeded(self, servable: ServableId, watch: Watch) -> None:
        total = watch.input + watch.infer + watch.output
        parts = ((SUCCESS, total), (INPUT, watch.input), (INFER, watch.infer), (OUTPUT, watch.output))
        for part, seconds in parts:
            self._add(servable, part, seconds)

    def failed(self, servable: ServableId, seconds: float) -> None:
        """A request that the version could not answer, after so long."""
        self._add(servable, FAIL, seconds)

    def _add(self, servable: ServableId, part: str, seconds: float) -> None:
        version = (servable.name, str(servable.version))
        if version not in self._used:
            self._begin(version)
        self._counts.labels(*version, part).add()
        self._seconds.labels(*version, part).add(seconds)

    def _begin(self, version: tuple[str, str]) -> None:
        self._used[version] = None
        if len(self._used) > MAX_VERSIONS:
            oldest = next(iter(self._used))
            del self._used[oldest]
            self._counts.forget(*oldest)
            self._seconds.forget(*oldest)

    async def of(self, servables: Iterable[ServableId]) -> dict[ServableId, Statistics]:
        """Of each of these versions."""
        found = {family.name: family.values for family in await self._collect() if family.name in (_COUNT, _SECONDS)}
        statistics = {}
        for servable in servables:
            key = (servable.name, str(servable.version))
            counts = {labels[2]: value for labels, value in found.get(_COUNT, {}).items() if labels[:2] == key}
            seconds = {labels[2]: value for labels, value in found.get(_SECONDS, {}).items() if labels[:2] == key}
            statistics[servable] = Statistics(
                {part: int(value) for part, value in counts.items() if isinstance(value, int | float)},
                {part: value for part, value in seconds.items() if isinstance(value, int | float)},
            )
        return statistics
