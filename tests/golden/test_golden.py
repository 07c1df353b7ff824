"""Recorded answers of TensorFlow Serving, replayed; skipped where the recordings are not at hand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import golden


def test_we_differ_from_the_original_only_where_we_say_so() -> None:
    folder = golden.golden_folder()
    if not (folder / "cases.jsonl").exists():
        pytest.skip(f"no recorded cases in {folder}")
    passed, failed = golden.replay(folder, golden.ROOT / ".cache" / "golden-models")
    assert passed > 400
    assert golden.verdict(failed) == []
