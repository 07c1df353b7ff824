"""Versions that come and go leave no memory and no open files behind."""

import pytest

from benchmarks import changing_model, memory


@pytest.mark.soak
def test_fifty_rounds_of_resnet50() -> None:
    rounds = memory.load_and_unload(changing_model.resnet50(), 50, "ResNet50")
    assert abs(memory.growth(rounds)) <= 0.1, rounds
    assert rounds[-1][1] <= rounds[1][1], rounds


@pytest.mark.soak
def test_a_thousand_rounds_of_half_plus_two() -> None:
    rounds = memory.load_and_unload(changing_model.steady_base_path() / "1", 1000, "half_plus_two")
    assert abs(memory.growth(rounds)) <= 0.1, rounds
    assert rounds[-1][1] <= rounds[1][1], rounds


@pytest.mark.soak
def test_two_hundred_rounds_that_another_engine_takes_over() -> None:
    rounds = memory.load_and_unload(changing_model.digits(), 200, "mnist", accelerated=True)
    assert abs(memory.growth(rounds)) <= 0.1, rounds
    assert rounds[-1][1] <= rounds[1][1] + 2, rounds


@pytest.mark.soak
def test_two_hundred_rounds_in_processes_of_their_own() -> None:
    version = changing_model.steady_base_path() / "1"
    rounds = memory.load_and_unload(version, 200, "isolated", options=memory.ISOLATED)
    assert abs(memory.growth(rounds)) <= 0.05, rounds
    assert rounds[-1][1] <= rounds[1][1], rounds
