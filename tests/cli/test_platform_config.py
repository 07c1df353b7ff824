"""What a platform config file says takes the place of the flags."""

import logging
from pathlib import Path

import pytest

from pyserving.batching.parameters import Batching, BatchingParameters
from pyserving.cli.model_server import settings_of
from pyserving.cli.model_server_flags import read_command_line
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.python.options import PythonModels
from pyserving.server.settings import Settings

ADAPTER = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"


def settings(tmp_path: Path, text: str, *flags: str) -> Settings:
    file = tmp_path / "platform.config"
    file.write_text(text)
    words = ["--model_base_path=/m", "--model_name=m", f"--platform_config_file={file}", *flags]
    return settings_of(read_command_line(words, {}).flags)


def tensorflow(legacy_config: str) -> str:
    return (
        'platform_configs { key: "tensorflow" value { source_adapter_config { '
        f"[{ADAPTER}] {{ legacy_config {{ {legacy_config} }} }} }} }} }}"
    )


def test_all_that_counts(tmp_path: Path) -> None:
    text = """
        session_config { intra_op_parallelism_threads: 2 gpu_options { allow_growth: true } }
        batching_parameters { max_batch_size { value: 32 } }
        saved_model_tags: "serve" saved_model_tags: "gpu"
        enable_model_warmup: true
        model_warmup_options { num_request_iterations { value: 3 } }
        prefer_tflite_model: true
        num_tflite_pools: 5
        enable_per_model_batching_params: true
    """
    got = settings(tmp_path, tensorflow(text))
    config = got.session_options.config_proto()
    assert (config.intra_op_parallelism_threads, config.gpu_options.allow_growth) == (2, True)
    assert got.session_options.tags == ("serve", "gpu")
    assert isinstance(got.batching, BatchingParameters)
    assert got.batching.max_batch_size == 32
    assert got.per_model_batching
    assert got.warmup_iterations == 3
    assert got.prefer_tflite
    assert got.tflite_options.num_pools == 5


def test_flags_are_passed_over(tmp_path: Path) -> None:
    flags = [
        "--tensorflow_session_parallelism=9",
        "--enable_batching",
        "--saved_model_tags=other",
        "--mixed_precision=bfloat16",
    ]
    got = settings(tmp_path, tensorflow(""), *flags)
    assert got.session_options.config_proto().SerializeToString() == b""
    assert got.session_options.tags == ("serve",)
    assert got.batching is Batching.AUTOMATIC
    assert got.warmup_iterations == 0


def test_what_has_no_effect_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pyserving.cli"):
        settings(tmp_path, tensorflow('session_target: "grpc://there"'))
    assert "session_target is accepted but has no effect" in caplog.text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('platform_configs { key: "tensorflow" value {} }', "expected a tensorflow.serving.SavedModelBundleSource"),
        ('platform_configs { key: "other" value {} }', "Model m requests unsupported platform tensorflow"),
        (tensorflow("no_such_field: 1"), "Invalid protobuf file"),
        (tensorflow("batching_parameters { max_batch_size { value: -1 } }"), "input_batch_size_limit must be positive"),
    ],
)
def test_what_cannot_be(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ServingError, match=error) as caught:
        settings(tmp_path, text)
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_code_of_models_is_run_only_where_asked() -> None:
    def python_models(*flags: str) -> PythonModels:
        words = ["--model_base_path=/m", *flags]
        return settings_of(read_command_line(words, {}).flags).python_options.models

    assert python_models() is PythonModels.OFF
    assert python_models("--python_models=on") is PythonModels.ON
    assert python_models("--python_models=process") is PythonModels.PROCESS
    with pytest.raises(ServingError, match="--python_models must be off, on or process, not yes"):
        python_models("--python_models=yes")


def test_a_missing_file(tmp_path: Path) -> None:
    words = ["--model_base_path=/m", f"--platform_config_file={tmp_path}/none"]
    with pytest.raises(ServingError) as caught:
        settings_of(read_command_line(words, {}).flags)
    assert str(caught.value) == f"NOT_FOUND: {tmp_path}/none; No such file or directory"


@pytest.mark.parametrize(
    ("flags", "policy", "never"),
    [
        ([], Batching.AUTOMATIC, ()),
        (["--automatic_batching=false"], Batching.OFF, ()),
        (["--automatic_batching_exclude=a,b"], Batching.AUTOMATIC, ("a", "b")),
        (["--enable_batching"], BatchingParameters(), ()),
    ],
)
def test_which_way_requests_are_batched(flags: list[str], policy: object, never: tuple[str, ...]) -> None:
    got = settings_of(read_command_line(["--model_base_path=/m", *flags], {}).flags)
    assert (got.batching, got.never_automatic) == (policy, never)
