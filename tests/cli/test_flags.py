"""Flags of tensorflow_model_server: its manner of parsing, its table of flags, its environment."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.cli.flags import Flag, FlagType, parse_flags
from pyserving.cli.flags import usage as flags_usage
from pyserving.cli.model_server_flags import ModelServerFlags, read_command_line, usage

FLAGS = (
    Flag("count", FlagType.INT32, 3, "Numbers", "How many."),
    Flag("size", FlagType.INT64, 0, "Numbers", "How big."),
    Flag("share", FlagType.FLOAT, 0.0, "Numbers", "What part."),
    Flag("name", FlagType.STRING, "x", "Texts", "What name."),
    Flag("loud", FlagType.BOOL, False, "Texts", "With noise."),
    Flag("loudest", FlagType.BOOL, True, "Texts", "With more noise."),
)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--count=5"], {"count": 5}),
        (["--count=-5"], {"count": -5}),
        (["--count= +7"], {"count": 7}),
        (["--count=2147483647"], {"count": 2147483647}),
        (["--size=9223372036854775807"], {"size": 9223372036854775807}),
        (["--share=.5"], {"share": 0.5}),
        (["--share=1e-3"], {"share": 0.001}),
        (["--name=a=b --c"], {"name": "a=b --c"}),
        (["--name="], {"name": ""}),
        (["--loud"], {"loud": True}),
        (["--loud=true"], {"loud": True}),
        (["--loud=FALSE"], {"loud": False}),
        (["--loud=1", "--loudest=0"], {"loud": True, "loudest": False}),
        (["--count=1", "--count=2"], {"count": 2}),
        (["--count", "5"], {"count": 5}),
        (["--count", "-5"], {"count": -5}),
        (["--name", "a", "--loud"], {"name": "a", "loud": True}),
    ],
)
def test_values(words: list[str], values: dict[str, object]) -> None:
    parsed = parse_flags(FLAGS, words)
    assert parsed.values == values
    assert not parsed.unknown
    assert not parsed.errors
    assert not parsed.help


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("--loud=maybe", "Couldn't interpret value maybe for flag loud."),
        ("--loud=", "Couldn't interpret value  for flag loud."),
        ("--count=", "Couldn't interpret value  for flag count."),
        ("--count=1.5", "Couldn't interpret value 1.5 for flag count."),
        ("--count=1 ", "Couldn't interpret value 1  for flag count."),
        ("--count=1_000", "Couldn't interpret value 1_000 for flag count."),
        ("--count=2147483648", "Couldn't interpret value 2147483648 for flag count."),
        ("--size=9223372036854775808", "Couldn't interpret value 9223372036854775808 for flag size."),
        ("--count=" + "9" * 5000, "Couldn't interpret value " + "9" * 5000 + " for flag count."),
        ("--share=half", "Couldn't interpret value half for flag share."),
    ],
)
def test_values_that_cannot_be_read(word: str, error: str) -> None:
    parsed = parse_flags(FLAGS, [word, "--name=y"])
    assert parsed.errors == [error]
    assert parsed.values == {"name": "y"}


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        (["--nope"], ["--nope"]),
        (["--nope=1", "--name=y"], ["--nope=1"]),
        (["-count=1"], ["-count=1"]),
        (["stray"], ["stray"]),
        (["--loud", "true"], ["true"]),
        (["--count"], ["--count"]),
        (["--count", "--loud"], ["--count"]),
        (["--", "--count=1"], ["--", "--count=1"]),
        (["--Count=1"], ["--Count=1"]),
        ([""], [""]),
        (["-h"], ["-h"]),
    ],
)
def test_what_is_no_flag_is_set_aside(words: list[str], unknown: list[str]) -> None:
    parsed = parse_flags(FLAGS, words)
    assert parsed.unknown == unknown
    assert not parsed.errors
    assert "count" not in parsed.values


def test_help() -> None:
    assert parse_flags(FLAGS, ["--count=1", "--help"]).help
    assert not parse_flags(FLAGS, ["--", "--help"]).help


def test_usage_groups_the_flags_with_their_defaults() -> None:
    assert flags_usage("it", FLAGS).startswith(
        "usage: it [--name=value ...]\n"
        "\nNumbers:\n"
        "  --count=3  (int32)\n"
        "      How many.\n"
        "  --size=0  (int64)\n"
        "      How big.\n"
        "  --share=0.0  (float)\n"
        "      What part.\n"
        "\nTexts:\n"
        '  --name="x"  (string)\n'
        "      What name.\n"
        "  --loud=false  (bool)\n"
    )


@given(st.lists(st.text(max_size=12) | st.sampled_from(["--count", "--count=1", "--loud", "--", "--help", "--name=é"])))
def test_any_words_are_read_without_a_crash(words: list[str]) -> None:
    parsed = parse_flags(FLAGS, words)
    assert set(parsed.unknown) <= set(words)


# The table. Values that differ from the default, so that a flag which is not stored shows.
OTHER_VALUES = {
    "port": 1,
    "grpc_socket_path": "/s",
    "rest_api_port": 2,
    "rest_api_num_threads": 1000,
    "rest_api_timeout_in_ms": 1,
    "rest_api_enable_cors_support": True,
    "enable_batching": True,
    "batching_parameters_file": "/b",
    "enable_per_model_batching_parameters": True,
    "automatic_batching": False,
    "automatic_batching_exclude": "a,b",
    "max_queued_requests": 5,
    "max_queued_requests_per_model": 5,
    "max_requests_in_flight": 5,
    "max_requests_in_flight_per_model": 5,
    "refuse_late_requests": True,
    "allow_version_labels_for_unavailable_models": True,
    "model_config_file": "/c",
    "model_config_file_poll_wait_seconds": 7,
    "model_name": "m",
    "model_base_path": "/m",
    "num_load_threads": 3,
    "num_unload_threads": 4,
    "max_num_load_retries": 0,
    "load_retry_interval_micros": 5_000_000_000,
    "file_system_poll_wait_seconds": 0,
    "object_store_poll_wait_seconds": 9,
    "model_cache_path": "/c",
    "flush_filesystem_caches": False,
    "tensorflow_session_parallelism": 5_000_000_000,
    "tensorflow_session_config_file": "/t",
    "tensorflow_intra_op_parallelism": 5_000_000_000,
    "tensorflow_inter_op_parallelism": 5_000_000_000,
    "ssl_config_file": "/k",
    "rest_api_ssl_config_file": "rest_ssl.config",
    "api_keys_file": "/keys",
    "restrict_admin": True,
    "enable_health": True,
    "drain_delay_seconds": 5.0,
    "platform_config_file": "/p",
    "per_process_gpu_memory_fraction": 0.25,
    "saved_model_tags": "serve,gpu",
    "grpc_channel_arguments": "a=1,b=2",
    "grpc_max_threads": 1000,
    "enable_model_warmup": False,
    "num_request_iterations_for_warmup": 9,
    "version": True,
    "monitoring_config_file": "/n",
    "enable_session_service": True,
    "enable_console": True,
    "enable_open_inference_protocol": True,
    "workers": 2,
    "log_format": "json",
    "access_log": "/var/log/access.log",
    "access_log_format": "text",
    "slow_request_ms": 250,
    "tracing": True,
    "custom_op_libraries": "/a.so,/b.so",
    "python_models": "process",
    "isolate": True,
    "lazy": True,
    "model_memory_budget": 5_000_000_000,
    "accelerate": "tflite",
    "acceleration_cache": "/c",
    "acceleration_requests": 5,
    "remove_unused_fields_from_bundle_metagraph": False,
    "prefer_tflite_model": True,
    "num_tflite_pools": 1000,
    "num_tflite_interpreters_per_pool": 6,
    "enable_signature_method_name_check": True,
    "xla_cpu_compilation_enabled": True,
    "xla_gpu_compilation_enabled": True,
    "enable_profiler": False,
    "thread_pool_factory_config_file": "/f",
    "mixed_precision": "bfloat16",
    "enable_grpc_healthcheck_service": True,
    "enable_serialization_as_tensor_content": True,
    "use_alts_credentials": True,
    "skip_initialize_tpu": True,
}


def shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(("name", "value"), OTHER_VALUES.items())
def test_each_flag_of_the_model_server(name: str, value: object) -> None:
    line = read_command_line([f"--{name}={shown(value)}"], {})
    assert getattr(line.flags, name) == value != getattr(ModelServerFlags(), name)
    assert line.given == {name}
    assert not line.unknown
    assert not line.errors
    assert f"--{name}=" in usage("it")


def test_the_model_server_has_no_other_flags() -> None:
    assert {field.name for field in fields(ModelServerFlags)} == OTHER_VALUES.keys()


def test_defaults() -> None:
    flags = read_command_line([], {}).flags
    assert flags == ModelServerFlags()
    assert (flags.port, flags.rest_api_port, flags.rest_api_timeout_in_ms) == (8500, 0, 30000)
    assert (flags.model_name, flags.model_base_path) == ("default", "")
    assert (flags.max_num_load_retries, flags.load_retry_interval_micros) == (5, 60_000_000)
    assert flags.file_system_poll_wait_seconds == 1
    assert flags.rest_api_num_threads == flags.grpc_max_threads == 4 * flags.num_tflite_pools > 0


@pytest.mark.parametrize(
    ("words", "warnings"),
    [
        ([], ()),
        (["--port=1", "--num_load_threads=2"], ()),
        (["--mixed_precision=bfloat16"], ()),
        (["--skip_initialize_tpu=false", "--enable_profiler=0"], ()),
        (["--enable_batching"], ()),
        (["--mixed_precision=", "--enable_model_warmup=0", "--ssl_config_file="], ()),
        (
            ["--skip_initialize_tpu"],
            ("--skip_initialize_tpu is accepted but has no effect: TPUs are not initialised by this server",),
        ),
        (
            ["--xla_cpu_compilation_enabled", "--skip_initialize_tpu", "--skip_initialize_tpu=true"],
            (
                "--xla_cpu_compilation_enabled is accepted but has no effect: what a model asks to be compiled is "
                "compiled in any case",
                "--skip_initialize_tpu is accepted but has no effect: TPUs are not initialised by this server",
            ),
        ),
    ],
)
def test_flags_that_will_not_do_what_they_ask_for_are_told_of(words: list[str], warnings: tuple[str, ...]) -> None:
    assert read_command_line(words, {}).warnings == warnings


def test_unknown_words_errors_and_help_are_handed_on() -> None:
    line = read_command_line(["--nope", "--port=x", "--help"], {})
    assert line.unknown == ("--nope",)
    assert line.errors == ("Couldn't interpret value x for flag port.",)
    assert line.help
    assert line.flags.port == 8500


@pytest.mark.parametrize(
    ("environ", "name", "base_path"),
    [
        ({"MODEL_NAME": "half"}, "half", "/models/half"),
        ({"MODEL_BASE_PATH": "/data"}, "model", "/data/model"),
        ({"MODEL_NAME": "half", "MODEL_BASE_PATH": "/data"}, "half", "/data/half"),
    ],
)
def test_environment_of_the_docker_image(environ: dict[str, str], name: str, base_path: str) -> None:
    flags = read_command_line([], environ).flags
    assert (flags.model_name, flags.model_base_path) == (name, base_path)
    assert (flags.port, flags.rest_api_port) == (8500, 8501)
    assert read_command_line(["--rest_api_port=0"], environ).flags.rest_api_port == 0


@pytest.mark.parametrize("word", ["--model_name=a", "--model_base_path=/a", "--model_config_file=/a"])
def test_a_flag_that_names_a_model_rules_the_environment_out(word: str) -> None:
    environ = {"MODEL_NAME": "half", "MODEL_BASE_PATH": "/data"}
    assert read_command_line([word], environ).flags == read_command_line([word], {}).flags


def test_empty_environment_variables_count_as_unset() -> None:
    assert read_command_line([], {"MODEL_NAME": "", "MODEL_BASE_PATH": ""}).flags == ModelServerFlags()
