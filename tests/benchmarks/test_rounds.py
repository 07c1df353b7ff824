from collections.abc import Callable

from benchmarks.rounds import Spread, interleaved, ratio, spread


def test_rounds_are_interleaved_and_every_other_runs_backwards() -> None:
    calls: list[str] = []

    def run(name: str) -> Callable[[], int]:
        return lambda: calls.append(name) or len(calls)

    assert list(interleaved({name: run(name) for name in "abc"}, 3)) == [
        ("a", 1), ("b", 2), ("c", 3), ("c", 4), ("b", 5), ("a", 6), ("a", 7), ("b", 8), ("c", 9),
    ]  # fmt: skip
    assert "".join(calls) == "abccbaabc"


def test_a_ratio_is_taken_within_each_round() -> None:
    assert ratio([10, 40, 9], [20, 80, 10]) == 0.5


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
