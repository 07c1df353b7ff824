"""``pyserving serve``: numbers that make no sense are refused before anything starts."""

import pytest
from click.testing import CliRunner

from pyserving.cli.main import main


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--threads", "-1"),
        ("--grace", "-1"),
        ("--memory-limit", "-1"),
        ("--poll", "-1"),
        ("--poll", "nan"),
        ("--grace", "inf"),
    ],
)
def test_a_number_that_cannot_be_is_refused(option: str, value: str, tmp_path) -> None:
    result = CliRunner().invoke(main, ["serve", str(tmp_path), option, value])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output


def test_a_folder_whose_name_looks_like_a_style(tmp_path) -> None:
    """What rich would take for markup is told as it is."""
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "[red]" / "[" / "x]" / ":b:")])
    assert result.exit_code == 1
    assert f"cannot serve: no folder at {tmp_path}/[red]/[/x]/:b:" in result.stderr
