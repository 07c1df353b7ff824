"""Learning how many rows to join."""

import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pyserving.batching.batch_size import BatchSize
from pyserving.batching.ladder import Ladder

MOST = 64


def climb(ladder: Ladder, cost: Callable[[int], float], samples: int = 3000) -> list[int]:
    """The numbers that it had."""
    numbers = []
    for _ in range(samples):
        numbers.append(ladder.number)
        ladder.add(cost(ladder.number))
    return numbers


def learned(cost: Callable[[int], float]) -> int:
    ladder = Ladder(MOST)
    climb(ladder, cost)
    numbers = climb(ladder, cost, 20)
    return max(set(numbers), key=numbers.count)


def test_it_begins_with_a_quarter() -> None:
    assert [Ladder(most).number for most in (1, 2, 4, 64)] == [1, 1, 1, 16]


def test_it_climbs_while_the_cost_falls() -> None:
    assert learned(lambda rows: 1e-3 / rows + 1e-5) == MOST


def test_it_descends_while_the_cost_falls() -> None:
    assert learned(lambda rows: 1e-3 * rows) == 1


def test_it_stays_where_all_cost_the_same() -> None:
    assert learned(lambda rows: 1e-2) == MOST // 4


def test_it_finds_what_lies_between() -> None:
    assert learned(lambda rows: 1e-3 / rows + (1e-2 if rows > 8 else 0)) == 8


def test_strays_do_no_harm() -> None:
    ladder = Ladder(MOST)
    strays = itertools.cycle([1, 1, 1, 50, 1, 1, 1])
    climb(ladder, lambda rows: next(strays) * (1e-3 / rows + 1e-5))
    assert ladder.number >= 32


def test_a_cost_that_rises_and_falls_for_all_alike_misleads_nobody() -> None:
    """As on a machine that others use, too."""
    slow = itertools.cycle([1.0] * 40 + [3.0] * 40)
    assert learned(lambda rows: next(slow) * (1e-3 / rows + (1e-2 if rows > 8 else 0))) == 8


def test_the_slow_first_run_of_a_size_does_not_rule_it_out() -> None:
    first = {1, 2, 4, 8, 16}

    def cost(rows: int) -> float:
        if rows in first:
            first.remove(rows)
            return 5.0
        return 1e-3 * rows

    assert learned(cost) == 1
    assert not first


def test_it_follows_a_lasting_change() -> None:
    ladder = Ladder(MOST)
    climb(ladder, lambda rows: 1e-2)
    climb(ladder, lambda rows: 1e-2 / rows, 10_000)
    assert ladder.number >= 32
    climb(ladder, lambda rows: 1e-2 * rows, 10_000)
    assert ladder.number <= 2


def test_trials_that_find_nothing_become_rare() -> None:
    """However dear they are."""
    ladder = Ladder(MOST)
    climb(ladder, lambda rows: 1.0 if rows > 8 else 1e-2 / rows)
    numbers = climb(ladder, lambda rows: 1.0 if rows > 8 else 1e-2 / rows, 10_000)
    assert 0 < sum(number > 8 for number in numbers) <= 40
    assert numbers.count(8) > 9_900


@given(st.lists(st.floats(0, 10), max_size=300), st.integers(1, 64))
def test_it_never_leaves_its_rungs(samples: list[float], most: int) -> None:
    ladder = Ladder(most)
    for cost in samples:
        assert 1 <= ladder.number <= most
        ladder.add(cost)


def crowd(size: BatchSize, present: int, seconds: Callable[[int], float], batches: int = 3000) -> None:
    """So many rows wait or run at any time."""
    for _ in range(batches):
        rows = min(size.rows, present)
        size.add(rows, seconds(rows), present, 0)


def dear_beyond_8(rows: int) -> float:
    return 1e-2 + rows * 1e-3 + max(0, rows - 8) * 1e-1


def test_the_size_of_batches_is_that_by_which_most_rows_are_done() -> None:
    size = BatchSize()
    crowd(size, 32, dear_beyond_8)
    assert size.rows == 8


def test_what_was_learned_of_a_crowd_outlasts_a_lone_client() -> None:
    size = BatchSize()
    crowd(size, 32, dear_beyond_8)
    crowd(size, 1, lambda rows: 1e-2)
    assert size.rows == 1
    crowd(size, 32, dear_beyond_8, 1)
    assert size.rows == 8


def test_of_a_small_crowd_no_batch_is_expected_that_it_cannot_fill() -> None:
    size = BatchSize()
    crowd(size, 4, lambda rows: 1e-2)
    assert size.rows <= 4


def test_a_few_slow_batches_are_enough_to_split_a_crowd() -> None:
    size = BatchSize()
    crowd(size, 32, lambda rows: 1.0, 1)
    assert size.rows == 8


def test_batches_that_began_with_another_size_do_not_count() -> None:
    size = BatchSize()
    crowd(size, 2, lambda rows: 1e-2, 1)
    numbers = []
    for _ in range(2000):
        numbers.append(size.rows)
        late = len(numbers) > 1 and numbers[-1] != numbers[-2]
        size.add(1, 1e-4 if late else 1e-2 * size.rows, 2, 1)
    assert numbers.count(2) < 0.1 * len(numbers)
