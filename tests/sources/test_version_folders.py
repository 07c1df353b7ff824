"""Which children of a base path are versions."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.sources.version_folders import Duplicate, VersionPath, list_versions, parse_version


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("00000123", 123),
        ("0", 0),
        ("-5", -5),
        ("+5", 5),
        (" 5\t", 5),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("0" * 5000 + "7", 7),
    ],
)
def test_names_that_are_versions(name: str, version: int) -> None:
    assert parse_version(name) == version


@pytest.mark.parametrize(
    "name",
    [
        "", "-", "+", "--1", "1.0", "1a", "v1", "1_000", "0x1", "1 2", "- 1", "१", "²", "1\N{NO-BREAK SPACE}",
        ".1.tmp", "1e3", "9223372036854775808", "-9223372036854775809", "9" * 5000,
    ],
)  # fmt: skip
def test_names_that_are_not(name: str) -> None:
    assert parse_version(name) is None


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_every_int64_is_a_version(number: int) -> None:
    assert parse_version(str(number)) == number


def test_folders_and_links_to_folders_count(tmp_path: Path) -> None:
    base = tmp_path / "base"
    for folder in (base / "1", base / "002", base / "assets", tmp_path / "release"):
        folder.mkdir(parents=True)
    (base / "3").write_text("a file")
    (base / "4").symlink_to(tmp_path / "release")
    (base / "5").symlink_to(tmp_path / "nowhere")
    (base / "6").symlink_to("6")
    (base / "7").symlink_to(base / "3")
    found, duplicates = list_versions(str(base))
    assert found == {number: VersionPath(number, f"{base}/{name}") for number, name in [(1, "1"), (2, "002"), (4, "4")]}
    assert not duplicates


def test_of_two_folders_of_one_number_the_last_by_name_is_used(tmp_path: Path) -> None:
    for name in ("007", "07", "7", "1"):
        (tmp_path / name).mkdir()
    found, duplicates = list_versions(str(tmp_path))
    assert found[7] == (7, f"{tmp_path}/7")
    assert duplicates == [Duplicate(7, "07", "007"), Duplicate(7, "7", "07")]


def test_names_that_are_not_unicode_do_no_harm(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff1")
    (tmp_path / "1").mkdir()
    assert list(list_versions(str(tmp_path))[0]) == [1]
