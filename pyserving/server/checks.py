"""Examines a version that this process has loaded: its answers to golden requests, and how long they take."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from itertools import cycle, islice
from typing import Any

from pyserving.api.recorded import answer_recorded
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.handle import ServableHandle
from pyserving.server.aside import Aside
from pyserving.server.rollout_rules import GOLDEN_FILE, GateRules, LatencyRule, own_rules
from pyserving.server.warmup import FILE as WARMUP_FILE
from pyserving.server.warmup import MAX_RECORDS
from pyserving.validation.comparison import differences
from pyserving.validation.report import Tally
from pyserving.validation.samples import Method, Sample, parse_answer, read_samples
from pyserving.validation.tolerance import Tolerance

_MEASURED_SAMPLES = 100
"""Of different requests so many are measured."""


def check_answers(
    aside: Aside, handle: ServableHandle, folder: str, rules: GateRules, wanted: Callable[[], bool]
) -> int:
    """Compares the answers to the golden requests that ``folder`` and ``rules`` name, and returns how many there were.

    Raises FAILED_PRECONDITION, which tells of the first answer that is not as expected; CANCELLED once the version is
    not ``wanted`` any more; and ServingError for files that cannot be read.
    """
    count = 0
    for path, tolerance in _golden(folder, rules):
        tally = Tally()
        for sample in read_samples(path, "golden"):
            _require(wanted)
            _compare(aside, handle, sample, f"record {sample.number}", tolerance, tally)
        if not tally.compared:
            raise invalid_argument(f"{path} holds no requests")
        if tally.disagreement:
            first = tally.examples[0]
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"{tally.differed + tally.failed} of {tally.compared} golden requests of {path} were not answered as "
                f"expected; {first.request}: {first.texts[0]}",
            )
        count += tally.compared
    return count


def check_latency(handle: ServableHandle, folder: str, rules: GateRules, wanted: Callable[[], bool]) -> Sequence[float]:
    """Measures for each budget that ``folder`` and ``rules`` have, and returns the medians in seconds.

    Raises FAILED_PRECONDITION where it is exceeded; else as ``check_answers``.
    """
    budgets = [rule for rule in (own_rules(folder).latency, rules.latency) if rule is not None]
    if not budgets:
        return []
    samples = list(islice(_measured(folder, rules), _MEASURED_SAMPLES))
    if not samples:
        raise ServingError(
            Code.FAILED_PRECONDITION, "a latency budget needs golden requests or warmup requests to measure with"
        )
    aside = Aside("pyserving-latency-check", in_background=False)
    try:
        return [_measure(aside, handle, samples, budget, wanted) for budget in budgets]
    finally:
        aside.stop()


def _golden(folder: str, rules: GateRules) -> list[tuple[str, Tolerance]]:
    files = []
    own = os.path.join(folder, GOLDEN_FILE)
    if os.path.exists(own):
        files.append((own, own_rules(folder).tolerance))
    if rules.golden_requests:
        files.append((rules.golden_requests, rules.tolerance))
    return files


def _measured(folder: str, rules: GateRules) -> Iterator[Sample]:
    golden = _golden(folder, rules)
    for path, _ in golden:
        yield from read_samples(path, "golden")
    warmup = os.path.join(folder, WARMUP_FILE)
    if not golden and os.path.exists(warmup):
        yield from read_samples(warmup, "warmup", MAX_RECORDS)


def _compare(
    aside: Aside, handle: ServableHandle, sample: Sample, name: str, tolerance: Tolerance, tally: Tally
) -> None:
    if not sample.response:
        raise invalid_argument(f"{name} has no answer that is expected")
    try:
        answer = aside.run(answer_recorded(aside.prediction, handle, sample.method, sample.request)).result()
        tally.add(name, differences(sample.response, parse_answer(sample.method, answer), tolerance))
    except CancelledError:
        raise _given_up() from None
    except ServingError as error:
        tally.add_failure(name, str(error))


def _measure(
    aside: Aside, handle: ServableHandle, samples: Sequence[Sample], budget: LatencyRule, wanted: Callable[[], bool]
) -> float:
    async def timed(method: Method, request: Any) -> float:
        start = time.perf_counter()
        await answer_recorded(aside.prediction, handle, method, request)
        return time.perf_counter() - start

    def run(sample: Sample) -> float:
        _require(wanted)
        try:
            return aside.run(timed(sample.method, sample.request)).result()
        except CancelledError:
            raise _given_up() from None
        except ServingError as error:
            raise ServingError(error.code, f"record {sample.number}, to be measured: {error.message}") from None

    for sample in samples:
        run(sample)
    median = statistics.median(run(sample) for sample in islice(cycle(samples), budget.runs))
    if median > budget.seconds:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"the median of {budget.runs} runs was {median * 1e3:.3g} ms, and the latency budget is "
            f"{budget.seconds * 1e3:g} ms",
        )
    return median


def _require(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise _given_up()


def _given_up() -> ServingError:
    return ServingError(Code.CANCELLED, "the version is wanted no more")
