"""Runs a batch on a thread: joined where that is right, else each request by itself."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pyserving.batching.admission import Lane
from pyserving.batching.parameters import BatchingParameters
from pyserving.batching.refusal import Refusal
from pyserving.batching.request import Outcome, Part, Request, deadline_exceeded
from pyserving.batching.rows import Inputs, can_split, count_rows, join, split
from pyserving.core.errors import Code, ServingError
from pyserving.monitoring.observation import Computation
from pyserving.platforms.model import Array, Model, Signature

Deliver = Callable[[Sequence[tuple[Callable[[Outcome], None], Outcome]]], None]
"""Takes pairs of what to call on the event loop and with what."""

_NOT_SPLITTABLE = (
    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors"
)


@dataclass(slots=True, eq=False)
class BatchRun:
    """One batch of requests for the same outputs of a signature."""

    signature: Signature
    outputs: Sequence[str]
    parts: Sequence[Part]
    refusal: Refusal
    """What batches of these outputs have shown."""
    parameters: BatchingParameters | None
    observe: Callable[[Inputs, float], None]
    """Told how many seconds a run with these inputs took."""
    lane: Lane
    """That of the model."""
    deliver: Deliver = field(init=False)
    began: float = field(init=False)
    """On the clock of ``time.monotonic``."""

    def run(self, deliver: Deliver) -> None:
        """Delivers an outcome for every request that somebody waits for. Raises nothing."""
        self.deliver = deliver
        try:
            self._run()
        except BaseException as error:
            self._deliver_to_all(self.parts, error)

    def _run(self) -> None:
        self.began = now = time.monotonic()
        cost = sum(part.request.cost for part in self.parts)
        parts = []
        for part in self.parts:
            if _is_late(part.request, now):
                self.deliver([(part.settle, deadline_exceeded())])
            elif refusal := self.lane.too_late(part.request, now, cost):
                self.deliver([(part.settle, refusal)])
            elif not part.request.done:
                parts.append(part)
        if not parts:
            return
        rows = sum(part.rows for part in parts)
        padded_rows = self.parameters.allowed_size(rows) if self.parameters else rows
        if self.refusal.refused or (len(parts) == 1 and rows == padded_rows):
            self._run_each(parts)
        else:
            self._run_joined(parts, padded_rows)

    def _run_joined(self, parts: Sequence[Part], rows: int) -> None:
        may_run_again = self.signature.stateless
        try:
            outputs = self._compute(parts, join([part.inputs for part in parts], rows), _latest_deadline(parts))
        except Exception as error:
            if may_run_again:
                self._run_each(parts)
            else:
                self._deliver_to_all(parts, error)
        else:
            if can_split(outputs, rows):
                answers = split(outputs, [part.rows for part in parts], rows)
                self._tell_divided(parts)
                self.deliver([(part.settle, answer) for part, answer in zip(parts, answers, strict=True)])
                return
            self.refusal.refuse()
            if may_run_again:
                self._run_each(parts)
            else:
                self._deliver_to_all(parts, ServingError(Code.FAILED_PRECONDITION, _NOT_SPLITTABLE))

    def _tell_divided(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if part.request.observed is not None:
                part.request.observed.computations[-1].end()  # it is the same one for all
                return

    def _run_each(self, parts: Sequence[Part]) -> None:
        """Each by itself."""
        for part in parts:
            request = part.request
            if request.done:
                continue
            outcome: Outcome | None = None
            if request.num_parts == 1 or not self.refusal.refused:
                outcome = self._outcome(part, part.inputs)
            if request.num_parts > 1 and (outcome is None or isinstance(outcome, list)):
                outcome = self._splittable(part, outcome)
            if outcome is not None:
                self.deliver([(part.settle, outcome)])
            elif request.claim():
                # The answers to its parts cannot be put together: it is run as a whole after all.
                self.deliver([(request.settle, self._outcome(part, request.inputs))])

    def _splittable(self, part: Part, outputs: list[Array] | None) -> Outcome | None:
        """``outputs`` where they have the rows of this part of a split request; None if that must be run whole."""
        if outputs is not None and can_split(outputs, part.rows):
            return outputs
        self.refusal.refuse()
        return None if self.signature.stateless else ServingError(Code.FAILED_PRECONDITION, _NOT_SPLITTABLE)

    def _outcome(self, part: Part, inputs: Inputs) -> Outcome:
        if _is_late(part.request, time.monotonic()):
            return deadline_exceeded()
        try:
            return self._compute([part], inputs, part.request.deadline)
        except Exception as error:
            return error

    def _deliver_to_all(self, parts: Sequence[Part], error: BaseException) -> None:
        self.deliver([(part.settle, error) for part in parts])

    def _compute(self, parts: Sequence[Part], inputs: Inputs, deadline: float | None) -> list[Array]:
        """``inputs``: those of ``parts``, joined."""
        model: Model = parts[0].handle.servable
        observed = [part.request.observed for part in parts if part.request.observed is not None]
        timeout = None if deadline is None else max(deadline - time.monotonic(), 1e-3)
        start = time.perf_counter()
        if observed:
            with Computation(observed, len(parts), count_rows(inputs) or 0, self.began):
                outputs = model.run(self.signature, inputs, self.outputs, timeout=timeout)
        else:
            outputs = model.run(self.signature, inputs, self.outputs, timeout=timeout)
        seconds = time.perf_counter() - start
        self.observe(inputs, seconds)
        self.lane.ran(seconds)
        return outputs


def _is_late(request: Request, now: float) -> bool:
    return request.deadline is not None and now >= request.deadline


def _latest_deadline(parts: Sequence[Part]) -> float | None:
    deadlines = [part.request.deadline for part in parts]
    return None if None in deadlines else max(deadline for deadline in deadlines if deadline is not None)
