"""``pyserving serve``: numbers that make no sense are refused before anything starts."""

import pytest
from click.testing import CliRunner

from pyserving.cli.main import main


@pytest.mark.parametrize("option", ["--threads", "--grace"])
def test_a_negative_number_is_refused(option: str, tmp_path) -> None:
    result = CliRunner().invoke(main, ["serve", str(tmp_path), option, "-1"])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output
