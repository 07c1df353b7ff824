"""Learning how many rows to join."""

from collections.abc import Callable

from pyserving.batching.batch_size import MAX_ROWS, BatchSize


def learned(seconds: Callable[[int], float], batches: int = 2000) -> BatchSize:
    """What comes of a crowd that fills every batch."""
    size = BatchSize()
    for rows in (1, 2, 4) * 5:  # as the crowd comes
        size.add(rows, seconds(rows))
    for _ in range(batches):
        rows = size.next_limit()
        size.add(rows, seconds(rows))
    return size


def test_batches_grow_while_the_cost_of_a_row_falls() -> None:
    assert learned(lambda rows: 1e-3 + rows * 1e-5).rows == MAX_ROWS


def test_rows_that_cost_the_same_in_any_company_are_not_made_to_wait() -> None:
    assert learned(lambda rows: rows * 1e-2).rows == 1


def test_batches_do_not_grow_beyond_the_size_that_pays() -> None:
    assert learned(lambda rows: 1e-3 + rows * 1e-4 + max(0, rows - 16) * 1e-2).rows == 16


def test_a_stray_sample_does_no_lasting_harm() -> None:
    size = learned(lambda rows: 1e-3 + rows * 1e-5)
    size.add(MAX_ROWS, 10.0)
    for _ in range(200):
        rows = size.next_limit()
        size.add(rows, 1e-3 + rows * 1e-5)
    assert size.rows == MAX_ROWS


def test_it_follows_a_lasting_change() -> None:
    size = learned(lambda rows: rows * 1e-2)
    for _ in range(5000):
        rows = size.next_limit()
        size.add(rows, 1e-2 + rows * 1e-5)
    assert size.rows >= 16


def test_the_slow_first_run_of_a_size_does_not_rule_it_out() -> None:
    first = {8, 16, 32, 64}

    def seconds(rows: int) -> float:
        if rows in first:
            first.remove(rows)
            return 5.0
        return 1e-3 + rows * 1e-5

    assert learned(seconds).rows == MAX_ROWS
    assert 64 not in first


def test_a_request_of_many_rows_counts_as_the_largest_batch() -> None:
    size = BatchSize()
    size.add(10_000, 1.0)
    assert size.rows == MAX_ROWS
