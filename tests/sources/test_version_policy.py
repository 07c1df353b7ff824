"""Version policies: which versions are chosen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.sources.version_policy import All, Latest, Specific, VersionPolicy

VERSIONS = [7, -2, 10, 3]


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (Latest(), [10]),
        (Latest(1), [10]),
        (Latest(2), [7, 10]),
        (Latest(9), [-2, 3, 7, 10]),
        (Latest(0), [10]),
        (All(), [-2, 3, 7, 10]),
        (Specific(frozenset({10, 3})), [3, 10]),
        (Specific(frozenset({3, 77})), [3]),
        (Specific(frozenset({77})), []),
        (Specific(frozenset()), []),
    ],
)
def test_select(policy: VersionPolicy, chosen: list[int]) -> None:
    assert policy.select(VERSIONS) == chosen
    assert policy.select([]) == []


@given(st.sets(st.integers()), st.integers(min_value=0, max_value=20))
def test_latest_leaves_out_only_lower_versions(versions: set[int], number: int) -> None:
    chosen = Latest(number).select(versions)
    assert len(chosen) == min(max(number, 1), len(versions))
    assert all(out < kept for out in versions - set(chosen) for kept in chosen)
