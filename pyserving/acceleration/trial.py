"""Compares one engine with TensorFlow on one signature: answers first, then times."""

import time
from collections.abc import Callable, Sequence

from pyserving.acceleration.agreement import disagreement, largest_difference, nudged
from pyserving.acceleration.engines import CompiledSignature
from pyserving.acceleration.gate import Gate
from pyserving.acceleration.trial_inputs import (
    FLOAT_KINDS,
    InputMaker,
    Inputs,
    Kind,
    fits,
    gate_ranges,
    rows_of,
    tails,
    whole_shapes,
)
from pyserving.acceleration.verdict import Timing, Verdict
from pyserving.core.errors import ServingError
from pyserving.platforms.model import INLINE_SECONDS, Array, Model, Signature

_ROWS = (1, 2, 3, 8)
"""With so many rows answers are compared."""
_TIMED_ROWS = (1, 8)
_MUST_AGREE = 8.0
"""Inputs up to this size are those that models are made for; what differs only on larger ones is kept from them."""
_TIMING_SECONDS = 4.0
_MOST_RUNS = 60
_LEAST_RUNS = 5

Shapes = dict[str, tuple[int, ...]]


class Disagreement(Exception):  # noqa: N818  # a finding, and no error
    """What the engine computes is not what TensorFlow does."""


class Trial:
    """One engine against TensorFlow."""

    def __init__(
        self,
        tensorflow: Model,
        signature: Signature,
        name: str,
        engine: CompiledSignature,
        samples: Sequence[Inputs],
    ) -> None:
        """``name``: of the engine. ``samples``: inputs of requests, which show the shapes that the signature does not
        say."""
        self._tensorflow = tensorflow
        self._signature = signature
        self._name = name
        self._engine = engine
        self._samples = [sample for sample in samples if sample.keys() == signature.inputs.keys()]
        self._outputs = tuple(signature.outputs)
        self._inputs = InputMaker(signature)
        self._largest_difference = 0.0

    def verdict(self) -> Verdict:
        bases = self._bases()
        if not bases:
            return Verdict(self._name, "the shapes of its inputs are not known, and no recorded request shows them")
        try:
            self._inputs.find_ranges(self._smallest(bases[0]), self._expected)
            gate = self._gate(bases, self._compare_all(bases))
            timings = self._timings(bases, gate)
        except Disagreement as found:
            return Verdict(self._name, str(found), largest_difference=self._largest_difference)
        except ServingError as error:
            return Verdict(self._name, f"it fails: {error.message}", largest_difference=self._largest_difference)
        return Verdict(self._name, gate=gate, timings=timings, largest_difference=self._largest_difference)

    def _bases(self) -> list[Shapes]:
        """The shapes to try: of one row where any number of them will do, else of whole inputs."""
        signature = self._signature
        found: list[Shapes] = []
        rows = tails(signature)
        if signature.row_wise:
            found += [rows] if rows is not None else []
            found += [{name: array.shape[1:] for name, array in sample.items()} for sample in self._samples]
        else:
            whole = whole_shapes(signature)
            found += [whole] if whole is not None else []
            found += [rows_of(rows, count) for count in _ROWS] if rows is not None else []
            found += [{name: array.shape for name, array in sample.items()} for sample in self._samples]
        unique = {tuple(shapes[name] for name in signature.inputs): shapes for shapes in found}
        return [shapes for shapes in unique.values() if fits(self._smallest(shapes), signature)]

    def _smallest(self, base: Shapes) -> Shapes:
        return rows_of(base, 1) if self._signature.row_wise else base

    def _compare_all(self, bases: Sequence[Shapes]) -> tuple[float, float]:
        """The smallest and the largest number that the two agreed on. Raises Disagreement."""
        for sample in self._samples:
            self._compare(sample, "a recorded request")
        smallest = largest = 0.0
        for kind in FLOAT_KINDS:
            try:
                for base in bases:
                    for shapes in self._of_kind(base, kind):
                        self._compare(self._inputs.make(shapes, kind), f"numbers {kind.name}")
            except Disagreement:
                if kind.largest <= _MUST_AGREE:
                    raise
                break
            smallest, largest = min(smallest, kind.smallest), max(largest, kind.largest)
        for inputs in self._inputs.extremes(self._smallest(bases[0])):
            self._compare(inputs, "the smallest and largest integers")
        return smallest, largest

    def _of_kind(self, base: Shapes, kind: Kind) -> list[Shapes]:
        if not self._signature.row_wise:
            return [base]
        many = [rows_of(base, rows) for rows in _ROWS]
        chosen = many if kind.name == "normal" else many[1:2]
        return [shapes for shapes in chosen if fits(shapes, self._signature)] or many[:1]

    def _gate(self, bases: Sequence[Shapes], floats: tuple[float, float]) -> Gate:
        names = tuple(self._signature.inputs)
        return Gate(
            names=names,
            shapes=frozenset(tuple(base[name] for name in names) for base in bases),
            rows_are_free=self._signature.row_wise,
            ranges=gate_ranges(self._signature, floats, self._inputs.ranges),
        )

    def _compare(self, inputs: Inputs, what: str) -> None:
        shown = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        try:
            expected = self._expected(inputs)
        except ServingError as error:
            try:
                self._engine.run(inputs, self._outputs)
            except ServingError:
                return
            raise Disagreement(f"it answers what TensorFlow refuses, {what} ({shown}): {error.message[:200]}") from None
        moved = self._expected(nudged(inputs))
        found = self._engine.run(inputs, self._outputs)
        difference = largest_difference(expected, found)
        units = disagreement(expected, moved, found)
        if units > 1:
            raise Disagreement(f"answers differ: by {difference:.3g} for {what} ({shown})")
        self._largest_difference = max(self._largest_difference, difference)

    def _expected(self, inputs: Inputs) -> list[Array]:
        return self._tensorflow.run(self._signature, inputs, self._outputs)

    def _timings(self, bases: Sequence[Shapes], gate: Gate) -> list[Timing]:
        kind = FLOAT_KINDS[1]
        if not self._signature.row_wise:
            return [self._time(str(list(base.values())), [self._inputs.make(base, kind)], gate) for base in bases[:2]]
        by_rows = {rows: rows_of(bases[0], rows) for rows in (1, 2, 3, 8)}
        made = {
            rows: self._inputs.make(shapes, kind) for rows, shapes in by_rows.items() if fits(shapes, self._signature)
        }
        timings = [
            self._time(f"{rows} rows" if rows > 1 else "1 row", [made[rows]], gate)
            for rows in _TIMED_ROWS
            if rows in made
        ]
        # Joined requests come in all sizes, and an engine may have to get ready for each.
        timings.append(self._time("1 to 3 rows in turn", [made[rows] for rows in (1, 2, 3) if rows in made], gate))
        return timings

    def _time(self, rows: str, inputs: Sequence[Inputs], gate: Gate) -> Timing:
        """Both in turn, so that what else the machine does hits both."""
        runs: tuple[Callable[[Inputs], object], ...] = (
            self._tensorflow_run(inputs[0]),
            lambda each: gate.admits(each) and self._engine.run(each, self._outputs),
        )
        seconds: tuple[list[float], list[float]] = ([], [])
        for run in runs:
            for each in inputs:
                run(each)
        end = time.perf_counter() + _TIMING_SECONDS
        while len(seconds[0]) < _LEAST_RUNS or (time.perf_counter() < end and len(seconds[0]) < _MOST_RUNS):
            for run, found in zip(runs, seconds, strict=True):
                for each in inputs:
                    start = time.perf_counter()
                    run(each)
                    found.append(time.perf_counter() - start)
        return Timing(rows, _undisturbed(seconds[0]), _undisturbed(seconds[1]))

    def _tensorflow_run(self, inputs: Inputs) -> Callable[[Inputs], object]:
        """As the server would run it: short runs inline."""
        start = time.perf_counter()
        self._tensorflow.run(self._signature, inputs, self._outputs, inline=True)
        start = time.perf_counter()
        self._tensorflow.run(self._signature, inputs, self._outputs, inline=True)
        inline = time.perf_counter() - start < INLINE_SECONDS
        return lambda each: self._tensorflow.run(self._signature, each, self._outputs, inline=inline)


def _undisturbed(seconds: Sequence[float]) -> float:
    """The lower quartile: what else the machine does makes runs longer, never shorter."""
    return sorted(seconds)[len(seconds) // 4]
