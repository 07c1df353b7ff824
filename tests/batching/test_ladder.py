"""Learning how many rows to join."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pyserving.batching.ladder import Ladder

MOST = 64


def climb(ladder: Ladder, seconds: Callable[[int], float], batches: int = 2000) -> list[int]:
    """A crowd that fills every batch, of so many seconds for so many rows: the sizes of the batches."""
    sizes = []
    for _ in range(batches):
        rows = ladder.number
        sizes.append(rows)
        ladder.add(rows, seconds(rows) / rows)
    return sizes


def learned(seconds: Callable[[int], float]) -> int:
    ladder = Ladder(MOST)
    climb(ladder, seconds)
    return ladder.number


def test_it_climbs_while_the_cost_of_a_row_falls() -> None:
    assert learned(lambda rows: 1e-3 + rows * 1e-5) == MOST


def test_rows_that_cost_the_same_in_any_company_are_not_made_to_wait() -> None:
    assert learned(lambda rows: rows * 1e-2) == 1


def test_it_does_not_climb_beyond_what_pays() -> None:
    assert learned(lambda rows: 1e-3 + rows * 1e-4 + max(0, rows - 16) * 1e-2) == 16


def test_it_climbs_step_by_step() -> None:
    sizes = climb(Ladder(MOST), lambda rows: 1e-3 + rows * 1e-5, 30)
    assert sizes == sorted(sizes)
    assert set(sizes) == {1, 2, 4, 8, 16, 32, 64}


def test_strays_do_no_lasting_harm() -> None:
    ladder = Ladder(MOST)
    climb(ladder, lambda rows: 1e-3 + rows * 1e-5)
    for _ in range(3):
        ladder.add(MOST, 10.0)
    assert ladder.number == MOST


def test_it_follows_a_lasting_change() -> None:
    ladder = Ladder(MOST)
    climb(ladder, lambda rows: rows * 1e-2)
    climb(ladder, lambda rows: 1e-2 + rows * 1e-5, 20_000)
    assert ladder.number >= 32
    climb(ladder, lambda rows: rows * 1e-2, 20_000)
    assert ladder.number <= 2


def test_the_slow_first_run_of_a_size_does_not_rule_it_out() -> None:
    first = {8, 16, 32, 64}

    def seconds(rows: int) -> float:
        if rows in first:
            first.remove(rows)
            return 5.0
        return 1e-3 + rows * 1e-5

    assert learned(seconds) == MOST
    assert not first


def test_trials_that_find_nothing_become_rare() -> None:
    """However dear they are: here a row costs a hundred times as much in a batch of 16."""

    def seconds(rows: int) -> float:
        return rows * (1.0 if rows > 8 else 1e-2) + 1e-2

    ladder = Ladder(MOST)
    climb(ladder, seconds, 3000)
    sizes = climb(ladder, seconds, 20_000)
    assert 0 < sum(size > 8 for size in sizes) < 20


def test_what_the_load_never_reaches_is_left_open() -> None:
    """A crowd of five, in batches of up to five rows."""
    ladder = Ladder(MOST)
    for _ in range(200):
        rows = min(ladder.number, 5)
        ladder.add(rows, (1e-3 + rows * 1e-5) / rows)
    assert ladder.number == 8


def test_a_request_of_many_rows_counts_as_the_largest_batch() -> None:
    ladder = Ladder(MOST)
    for _ in range(3):
        ladder.add(10_000, 1.0)
    assert ladder.number == MOST


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 10)), max_size=200), st.integers(1, 64))
def test_it_never_leaves_its_rungs(samples: list[tuple[int, float]], most: int) -> None:
    ladder = Ladder(most)
    for number, cost in samples:
        assert 1 <= ladder.number <= most
        ladder.add(number, cost)
