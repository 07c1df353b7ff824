"""What several tests of sources need."""

import pytest

from pyserving.sources import settling


@pytest.fixture
def at_rest_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes files count as old: their times of change cannot be set back."""
    monkeypatch.setattr(settling, "_REST_NS", -3_600_000_000_000)
