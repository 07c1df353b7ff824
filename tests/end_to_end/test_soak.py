"""Millions of requests over REST and gRPC, and hundreds of swaps, leave no memory, open files or threads behind."""

import pytest

from benchmarks import closed_loop, soak


@pytest.mark.soak
def test_five_million_requests() -> None:
    if missing := closed_loop.missing_tools():
        pytest.skip(f"needs {' and '.join(missing)}")
    results = list(soak.rounds(5_000_000, 30))
    soak.write(results)
    assert results[-1].failed == 0, soak.report(results)
    counted = soak.after_warm_up(results)
    assert counted[-1].open_files <= counted[0].open_files + 2, soak.report(results)
    assert counted[-1].threads <= counted[0].threads + 2, soak.report(results)
    assert soak.growth(results) < 0.02, soak.report(results)
