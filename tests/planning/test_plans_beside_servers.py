"""What is foretold of several servers, beside what they do: minutes, and a quiet machine."""

import pytest

from benchmarks import planning


@pytest.mark.soak
def test_servers_do_what_was_foretold() -> None:
    """The figures of a run are in docs/scaling.md. On a machine with other work latencies are longer, never shorter."""
    outcomes = list(planning.measure(10))
    assert len(outcomes) == len(planning.SLEEPS) * len(planning.CASES)
    table = "\n".join(planning.lines_of(outcomes))
    print(table)
    for one in outcomes:
        assert one.p50 == pytest.approx(one.model_p50, rel=0.4), table
        assert 0.6 * one.model_p99 < one.p99 < 1.5 * one.planned_p99, table
