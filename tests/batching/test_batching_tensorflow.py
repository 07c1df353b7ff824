"""Batches on the real engine: many requests at once, each with the answer that it gets alone."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pyserving.batching import executor as executor_module
from pyserving.batching.executor import EngineExecutor
from pyserving.batching.parameters import Batching, BatchingParameters, BatchingPolicies, Policy
from pyserving.core.errors import ServingError
from pyserving.core.handle import ServedVersion
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions

pytestmark = pytest.mark.tensorflow

PARAMETERS = BatchingParameters(max_batch_size=16, max_execution_batch_size=16, max_enqueued_batches=1000)
POLICIES: list[Policy] = [
    Batching.OFF,
    Batching.AUTOMATIC,
    PARAMETERS,
    BatchingParameters(
        max_batch_size=8,
        max_execution_batch_size=8,
        allowed_batch_sizes=(2, 4, 8),
        num_batch_threads=2,
        max_enqueued_batches=1000,
    ),
    BatchingParameters(
        max_batch_size=100,
        max_execution_batch_size=4,
        batch_timeout_micros=1000,
        enable_large_batch_splitting=True,
        max_enqueued_batches=1000,
    ),
]

Inputs = dict[str, Array]


@pytest.fixture(params=POLICIES, ids=["off", "automatic", "parameters", "allowed sizes", "splitting"])
def policy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Policy:
    monkeypatch.setattr(executor_module, "INLINE_SECONDS", 0.0)
    chosen: Policy = request.param
    return chosen


@pytest.fixture
def load(model_dir: Callable[[str], Path]) -> Iterator[Callable[[str], TensorFlowModel]]:
    loaded: list[TensorFlowModel] = []

    def load_one(name: str) -> TensorFlowModel:
        loaded.append(TensorFlowModel(str(min(model_dir(name).iterdir())), SessionOptions()))
        return loaded[-1]

    yield load_one
    for model in loaded:
        model.close()


def all_at_once(
    model: TensorFlowModel, policy: Policy, requests: list[Inputs], name: str = "serving_default"
) -> list[list[Array] | ServingError]:
    """Each is asked four times, so that batches have been checked in the end."""
    executor = EngineExecutor(4, BatchingPolicies(policy))
    version = ServedVersion(ServableId(name, 1), model, lambda: None)
    signature = model.signatures[name]

    async def ask(inputs: Inputs) -> list[Array]:
        handle = version.hold()
        assert handle is not None
        with handle:
            return await executor.run(handle, signature, inputs, tuple(signature.outputs), None)

    async def main() -> list[list[Array] | BaseException]:
        for _ in range(4):
            outcomes = await asyncio.gather(*(ask(inputs) for inputs in requests), return_exceptions=True)
        executor.stop()
        return outcomes

    outcomes = asyncio.run(main())
    for outcome in outcomes:
        assert isinstance(outcome, list | ServingError), outcome
    return outcomes  # type: ignore[return-value]


def check(model: TensorFlowModel, policy: Policy, requests: list[Inputs], name: str = "serving_default") -> None:
    signature = model.signatures[name]
    for inputs, outcome in zip(requests, all_at_once(model, policy, requests, name), strict=True):
        try:
            expected: list[Array] | ServingError = model.run(signature, inputs, tuple(signature.outputs))
        except ServingError as error:
            expected = error
        if isinstance(expected, ServingError) or isinstance(outcome, ServingError):
            # Not the text: it may show the rows of the part of a request that failed.
            assert getattr(outcome, "code", None) is getattr(expected, "code", None)
            continue
        for found, alone in zip(outcome, expected, strict=True):
            assert (found.dtype, found.shape) == (alone.dtype, alone.shape)
            if alone.dtype == object:
                assert found.tolist() == alone.tolist()
            else:
                np.testing.assert_allclose(found, alone, rtol=1e-5)


def texts(*values: bytes) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


random = np.random.default_rng(4)


def vectors(count: int, most: int = 8) -> list[Inputs]:
    return [{"x": random.random(int(random.integers(0, most)), np.float32)} for _ in range(count)]


def test_floats(load: Callable[[str], TensorFlowModel], policy: Policy) -> None:
    check(load("half_plus_two_tf2"), policy, vectors(60))


def test_strings(load: Callable[[str], TensorFlowModel], policy: Policy) -> None:
    words = [b"", b"a", b"\xff\x00", b"x" * 40, "\u00e4rger".encode()]
    requests: list[Inputs] = [{"text": texts(*random.choice(words, size=1 + index % 4))} for index in range(40)]
    check(load("strings"), policy, requests)


def test_more_dimensions_and_two_outputs(load: Callable[[str], TensorFlowModel], policy: Policy) -> None:
    check(load("dims"), policy, [{"x": random.random((1 + i % 5, 2, 3), np.float32)} for i in range(40)])


def test_two_inputs_that_must_agree(load: Callable[[str], TensorFlowModel], policy: Policy) -> None:
    requests = [
        {
            "a": random.random((1 + i % 3, 2), np.float32),
            "b": random.random((1 + (i % 3 if i % 7 else 2), 2), np.float32),
        }
        for i in range(40)
    ]
    check(load("dims"), policy, requests, "two")


def test_the_one_that_fails_fails_alone(load: Callable[[str], TensorFlowModel], policy: Policy) -> None:
    requests = [{"x": random.random(1 + i % 3, np.float32) + (0.1 if i % 5 else -9)} for i in range(40)]
    check(load("failing"), policy, requests)


def test_an_output_that_sums_over_the_batch(load: Callable[[str], TensorFlowModel], policy: Policy) -> None:
    check(load("scalars"), policy, [{"x": random.random(1 + i % 3, np.float32)} for i in range(40)], "mixed")


def test_scalars(load: Callable[[str], TensorFlowModel], policy: Policy) -> None:
    check(load("scalars"), policy, [{"x": np.array(i, np.float32)} for i in range(20)])


def test_no_inputs(load: Callable[[str], TensorFlowModel], policy: Policy) -> None:
    check(load("scalars"), policy, [{}] * 10, "no_inputs")


def test_any_rank(load: Callable[[str], TensorFlowModel], policy: Policy) -> None:
    shapes = [(), (1,), (2, 2), (1, 2), (3, 2, 2), (1, 3)]
    check(load("unknown_rank"), policy, [{"x": random.random(shapes[i % 6], np.float32)} for i in range(60)])


def test_what_changes_state_is_run_once_for_each_request_unless_batches_were_asked_for(
    load: Callable[[str], TensorFlowModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "INLINE_SECONDS", 0.0)
    model = load("counter")
    outcomes = all_at_once(model, Batching.AUTOMATIC, [{"by": np.array([1], np.int64)}] * 10, "add")
    assert max(int(outcome[0][0]) for outcome in outcomes if isinstance(outcome, list)) == 4 * 10 * 2


def test_what_the_graph_tells_about_joining(load: Callable[[str], TensorFlowModel]) -> None:
    def known(name: str) -> dict[str, tuple[bool, bool]]:
        signatures = load(name).signatures
        return {
            key: (signature.stateless, signature.row_wise)
            for key, signature in signatures.items()
            if not key.startswith("__")
        }

    assert known("half_plus_two_tf2") == {"serving_default": (True, True)}
    assert known("scalars") == {
        "serving_default": (True, False),
        "mixed": (True, False),
        "text": (True, False),
        "no_inputs": (True, False),
    }
    assert known("unknown_rank") == {"serving_default": (True, True)}, "of vectors"
    counter = known("counter")
    assert counter["add"] == counter["random"] == (False, False)
