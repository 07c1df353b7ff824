"""A server that was told of libraries of operations."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from running_server import RunningServer

from pyserving.cli.model_server import settings_of
from pyserving.cli.model_server_flags import read_command_line
from pyserving.core.errors import Code, ServingError
from pyserving.core.state import State
from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]


@pytest.mark.parametrize("isolate", [False, True])
def test_a_model_with_operations_of_others_answers(
    start: Start, model_dir: Callable[[str], Path], isolate: bool
) -> None:
    found = importlib.util.find_spec("tensorflow_text")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs tensorflow-text")
    library = Path(found.submodule_search_locations[0], "python", "ops", "_regex_split_ops.so")
    server = start([ModelConfig("text", str(model_dir("text_ops")))], op_libraries=[str(library)], isolate=isolate)
    assert server.settled("text").state is State.AVAILABLE
    answer = server.post("text:predict", {"inputs": {"text": ["a few words", "one"]}})
    assert answer == {"outputs": {"tokens": ["a", "few", "words", "one"], "row_splits": [0, 3, 4]}}


def test_a_library_that_is_missing_keeps_the_server_from_starting(start: Start) -> None:
    with pytest.raises(ServingError, match=r"Op library /none\.so: no such file") as caught:
        start([], op_libraries=["/none.so"])
    assert caught.value.code is Code.NOT_FOUND


def test_the_flag() -> None:
    flags = read_command_line(["--model_base_path=/m", "--custom_op_libraries=/a.so,,/b.so"], {}).flags
    assert settings_of(flags).op_libraries == ("/a.so", "/b.so")
