"""``pyserving serve``: numbers that make no sense are refused before anything starts."""

import pytest
from click.testing import CliRunner

from pyserving.cli.main import main


@pytest.mark.parametrize("option", ["--threads", "--grace"])
def test_a_negative_number_is_refused(option: str, tmp_path) -> None:
    result = CliRunner().invoke(main, ["serve", str(tmp_path), option, "-1"])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output


def test_a_folder_whose_name_looks_like_a_style(tmp_path) -> None:
    """What rich would take for markup is told as it is."""
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "[red]" / "[" / "x]")])
    assert result.exit_code == 1
    assert f"cannot serve: no folder at {tmp_path}/[red]/[/x]" in result.stderr
