"""--monitoring_config_file: whether and where the page for Prometheus is served."""

from pathlib import Path

import pytest

from pyserving.cli.model_server import settings_of
from pyserving.cli.model_server_flags import ModelServerFlags
from pyserving.core.errors import Code, ServingError


def metrics_path(file: Path | None) -> str:
    flags = ModelServerFlags(model_base_path="/models/m", monitoring_config_file="" if file is None else str(file))
    return settings_of(flags).metrics_path


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ('prometheus_config { enable: true path: "/a/b" }', "/a/b"),
        ('prometheus_config { enable: true path: "a/b" }', "/a/b"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { path: "/a/b" }', ""),
        ("# nothing", ""),
    ],
)
def test_the_file_says_where(config: str, path: str, tmp_path: Path) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(config)
    assert metrics_path(file) == path


def test_without_the_flag_there_is_no_page() -> None:
    assert metrics_path(None) == ""


@pytest.mark.parametrize("text", ["", "prometheus_config { on: true }"])
def test_a_file_that_is_no_config_keeps_the_server_from_starting(text: str, tmp_path: Path) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    with pytest.raises(ServingError) as caught:
        metrics_path(file)
    assert caught.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(ServingError):
        metrics_path(tmp_path / "none")
