"""TensorFlow Serving's batching parameters: defaults, checks, files."""

import os
from pathlib import Path

import pytest
from batching_fakes import FunctionModel
from google.protobuf import text_format

from pyserving.batching.parameters import (
    Batching,
    BatchingParameters,
    BatchingPolicies,
    PerModelBatchingLoader,
    parameters_from_proto,
    read_parameters_file,
)
from pyserving.core.errors import Code, ServingError
from pyserving.core.resources import Resources
from pyserving.protos import messages


def parse(text: str) -> BatchingParameters:
    return parameters_from_proto(text_format.Parse(text, messages.BatchingParameters()))


def test_what_is_left_out_has_the_real_servers_defaults() -> None:
    parameters = parse("")
    assert parameters == BatchingParameters(
        max_batch_size=1000,
        batch_timeout_micros=0,
        max_enqueued_batches=10,
        num_batch_threads=os.cpu_count() or 1,
        max_execution_batch_size=1000,
    )


def test_every_field_is_read() -> None:
    parameters = parse(
        "max_batch_size { value: 64 } batch_timeout_micros { value: 500 } max_enqueued_batches { value: 7 } "
        "num_batch_threads { value: 3 } allowed_batch_sizes: 4 allowed_batch_sizes: 16 "
        "pad_variable_length_inputs: true enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 16 }"
    )
    assert parameters == BatchingParameters(64, 500, 7, 3, (4, 16), True, True, 16)


def test_without_splitting_the_execution_size_is_that_of_requests() -> None:
    assert parse("max_batch_size { value: 8 } max_execution_batch_size { value: 2 }").max_execution_batch_size == 8
    split = parse("max_batch_size { value: 8 } enable_large_batch_splitting { value: true }")
    assert split.max_execution_batch_size == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("max_batch_size { value: 0 }", "input_batch_size_limit must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        (
            "max_enqueued_batches { value: 0 } enable_large_batch_splitting { value: true }",
            "max_enqueued_batches must be positive; was 0",
        ),
        (
            "max_batch_size { value: 2 } max_execution_batch_size { value: 4 } "
            "enable_large_batch_splitting { value: true }",
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            "max_execution_batch_size. Got 2 and 4",
        ),
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: 2 allowed_batch_sizes: 3",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 3; expected 4",
        ),
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: 4 enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 2 }",
            "Last entry in allowed_batch_sizes must be equal to max_execution_batch_size; last entry was 4; expected 2",
        ),
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: 4 allowed_batch_sizes: 4",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: 0 allowed_batch_sizes: 4",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
    ],
)
def test_values_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        parse(text)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


def test_a_queue_of_no_batches_is_a_queue_of_one_as_the_real_server_has_it() -> None:
    assert parse("max_enqueued_batches { value: 0 }").max_enqueued_batches == 1


def test_a_batch_is_padded_to_the_next_allowed_size() -> None:
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(2, 8), max_execution_batch_size=8)
    assert [parameters.allowed_size(rows) for rows in (1, 2, 3, 8)] == [2, 2, 8, 8]
    assert BatchingParameters().allowed_size(3) == 3


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "b"
    file.write_text("max_batch_size: 4")
    with pytest.raises(ServingError) as caught:
        read_parameters_file(str(file))
    assert str(caught.value) == f"INVALID_ARGUMENT: Invalid protobuf file: '{file}'"


class FakeLoader:
    def __init__(self) -> None:
        self.model = FunctionModel({})
        self.loads = self.unloads = 0

    def estimate_resources(self) -> Resources:
        return Resources(ram_bytes=7)

    def load(self) -> FunctionModel:
        self.loads += 1
        return self.model

    def unload(self) -> None:
        self.unloads += 1


def test_a_version_with_parameters_of_its_own_is_batched_by_these(tmp_path: Path) -> None:
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 4 } num_batch_threads { value: 9 }")
    policies = BatchingPolicies(BatchingParameters(max_batch_size=64, num_batch_threads=3))
    inner = FakeLoader()
    loader = PerModelBatchingLoader(inner, str(tmp_path), policies)
    assert loader.estimate_resources() == Resources(ram_bytes=7)
    model = loader.load()
    policy = policies.of(model, "m")
    assert isinstance(policy, BatchingParameters)
    assert policy.max_batch_size == 4
    assert policies.num_batch_threads == 3, "all models share the threads"
    loader.unload()
    assert (inner.loads, inner.unloads) == (1, 1)


def test_a_version_without_a_file_is_not_batched_though_others_are(tmp_path: Path) -> None:
    policies = BatchingPolicies(BatchingParameters())
    model = PerModelBatchingLoader(FakeLoader(), str(tmp_path), policies).load()
    assert policies.of(model, "m") is Batching.OFF
    assert policies.of(FunctionModel({}), "m") == BatchingParameters()


def test_a_version_with_a_broken_file_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 0 }")
    inner = FakeLoader()
    with pytest.raises(ServingError, match="input_batch_size_limit"):
        PerModelBatchingLoader(inner, str(tmp_path), BatchingPolicies()).load()
    assert inner.loads == 0
