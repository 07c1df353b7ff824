"""Model configs: what they mean, and what is refused in TensorFlow Serving's words."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from pyserving.core.errors import Code, ServingError
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig, models_from_config, read_model_config_file, single_model
from pyserving.sources.version_policy import All, Latest, Specific, VersionPolicy


def config(text: str) -> messages.ModelServerConfig:
    return text_format.Parse(text, messages.ModelServerConfig(), descriptor_pool=messages.POOL)


def models(*entries: str, running: tuple[ModelConfig, ...] = ()) -> list[ModelConfig]:
    listed = "".join(f"config {{ {entry} }}" for entry in entries)
    found = models_from_config(config(f"model_config_list {{ {listed} }}"), running=running)
    assert found is not None
    return found


def refusal(*entries: str, running: tuple[ModelConfig, ...] = ()) -> str:
    with pytest.raises(ServingError) as raised:
        models(*entries, running=running)
    assert raised.value.code is Code.INVALID_ARGUMENT
    return raised.value.message


A = 'name: "a" base_path: "/models/a"'


def test_a_list_of_models(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(
        """model_config_list: {
          config: { name: "a", base_path: "/models/a", model_platform: "tensorflow" },  # with commas
          config {
            name: 'b'; base_path: 'gs://bucket/b'; model_platform: 'tensorflow';
            model_version_policy { specific { versions: 3 versions: 5 } }
            version_labels { key: "stable" value: 3 }
            version_labels { key: "" value: 5 }
            logging_config {
              log_collector_config { type: "tfrecord" filename_prefix: "/logs/b" }
              sampling_config { sampling_rate: 0.5 }
            }
          }
        }"""
    )
    found = read_model_config_file(str(path))
    assert found is not None
    a, b = found
    assert a == ModelConfig("a", "/models/a", "tensorflow", Latest(1), {}, None)
    assert (b.name, b.base_path) == ("b", "gs://bucket/b")
    assert b.version_policy == Specific(frozenset({3, 5}))
    assert b.labels == {"stable": 3, "": 5}
    assert b.logging_config is not None
    assert b.logging_config.sampling_config.sampling_rate == 0.5


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Latest(1)),
        ("model_version_policy {}", Latest(1)),
        ("model_version_policy { latest {} }", Latest(1)),
        ("model_version_policy { latest { num_versions: 3 } }", Latest(3)),
        ("model_version_policy { all {} }", All()),
        ("model_version_policy { specific { versions: [1, 2] } }", Specific(frozenset({1, 2}))),
        ("model_version_policy { specific {} }", Specific(frozenset())),
    ],
)
def test_version_policies(text: str, policy: VersionPolicy) -> None:
    assert models(f'{A} model_platform: "tensorflow" {text}')[0].version_policy == policy


def test_an_empty_list_is_no_models_and_no_list_is_nothing_to_do() -> None:
    assert models_from_config(config("model_config_list {}")) == []
    assert models_from_config(config("")) is None


def test_a_model_without_a_name() -> None:
    assert models('base_path: "/models/a" model_platform: "tensorflow"')[0].name == ""


def test_the_deprecated_model_type(caplog: pytest.LogCaptureFixture) -> None:
    running = (ModelConfig("a", "/models/a"),)
    assert models(f"{A} model_type: TENSORFLOW", running=running)[0].platform == "tensorflow"
    assert caplog.messages == ["Model a: model_type is deprecated, prefer model_platform"]


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([f'{A} model_platform: "tensorflow"'] * 2, "Illegal to list model a multiple times in config list"),
        (
            ['name: "a" base_path: "models/a" model_platform: "tensorflow"'],
            "Expected model a to have an absolute path or URI; got base_path()=models/a",
        ),
        (
            ['name: "a" model_platform: "tensorflow"'],
            "Expected model a to have an absolute path or URI; got base_path()=",
        ),
        ([f'{A} model_platform: "pytorch"'], "Model a requests unsupported platform pytorch"),
        (
            [f'{A} model_platform: "tensorflow" model_type: TENSORFLOW'],
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            "model name is a",
        ),
        (
            [A],
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is a",
        ),
        ([f"{A} model_type: OTHER"], "ModelServerConfig::model_type choice 2 not supported."),
    ],
)
def test_refusals(entries: list[str], text: str) -> None:
    assert refusal(*entries) == text


def test_a_running_models_platform_may_not_change() -> None:
    running = (ModelConfig("b", "/models/b"),)
    assert refusal('name: "b" base_path: "/models/b" model_platform: "other"', running=running) == (
        "Illegal to change a model's platform. For model b platform was tensorflow and new platform requested is other"
    )
    # The check comes before the one for unsupported platforms, and does not look at other models.
    assert refusal(f'{A} model_platform: "other"', running=running) == "Model a requests unsupported platform other"


LOGGING = f'{A} model_platform: "tensorflow" logging_config {{ %s }}'


@pytest.mark.parametrize(
    ("logging", "text"),
    [
        (
            'log_collector_config { type: "kafka" filename_prefix: "/logs/a" } sampling_config { sampling_rate: 0.5 }',
            "NOT_FOUND: Cannot find LogCollector::Factory for type: kafka; model a may have tfrecord",
        ),
        (
            'log_collector_config { filename_prefix: "logs/a" } sampling_config { sampling_rate: 0.5 }',
            "INVALID_ARGUMENT: Expected model a to have an absolute path in log_collector_config; "
            "got filename_prefix=logs/a",
        ),
        (
            "sampling_config { sampling_rate: 1 }",
            "INVALID_ARGUMENT: Expected model a to have an absolute path in log_collector_config; got filename_prefix=",
        ),
        (
            'log_collector_config { filename_prefix: "/logs/a" } sampling_config { sampling_rate: 1.5 }',
            "INVALID_ARGUMENT: Expected model a to have a sampling_rate from 0 to 1; got 1.5",
        ),
        (
            "sampling_config { sampling_rate: nan }",
            "INVALID_ARGUMENT: Expected model a to have a sampling_rate from 0 to 1; got nan",
        ),
    ],
)
def test_a_logging_config_that_cannot_be_followed_is_refused(logging: str, text: str) -> None:
    with pytest.raises(ServingError) as raised:
        models_from_config(config(f"model_config_list {{ config {{ {LOGGING % logging} }} }}"))
    assert str(raised.value) == text


def test_a_logging_config_that_samples_nothing_needs_no_files() -> None:
    models = models_from_config(config(f"model_config_list {{ config {{ {LOGGING % ''} }} }}"))
    assert models is not None
    assert models[0].logging_config is not None


def test_other_platforms_when_they_can_be_served() -> None:
    listed = config(f'model_config_list {{ config {{ {A} model_platform: "onnx" }} }}')
    found = models_from_config(listed, platforms={"tensorflow", "onnx"})
    assert found is not None
    assert found[0].platform == "onnx"


def test_custom_configs_are_refused() -> None:
    request = messages.ModelServerConfig()
    request.custom_model_config.type_url = "x"
    with pytest.raises(ServingError) as raised:
        models_from_config(request)
    assert str(raised.value) == (
        "INVALID_ARGUMENT: ServerModelConfig type not supported by HandleReloadConfigRequest. "
        "Only ModelConfigList is currently supported"
    )


def test_single_model() -> None:
    assert single_model("default", "/models/a") == [ModelConfig("default", "/models/a", "tensorflow", Latest(1))]
    with pytest.raises(ServingError) as raised:
        single_model("default", "models/a")
    assert str(raised.value) == (
        "INVALID_ARGUMENT: Expected model default to have an absolute path or URI; got base_path()=models/a"
    )


def test_a_base_path_with_a_zero_byte_is_refused() -> None:
    text = refusal('name: "a" base_path: "/models/\\000a" model_platform: "tensorflow"')
    assert text == "Expected model a to have a base path without zero bytes; got '/models/\\x00a'"
