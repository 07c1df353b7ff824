"""What is free is the least that the machine, and each group above the process, has."""

import sys
from pathlib import Path

import pytest

from pyserving.core import free_memory as module
from pyserving.core.free_memory import free_memory, groups_of


@pytest.mark.skipif(sys.platform != "linux", reason="others do not say")
def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (("max", "1000000\n"), ("current", "900000\n"), ("stat", "anon 1\ninactive_file 50000\n")):
        (tmp_path / name).write_text(text)
    files = tuple(str(tmp_path / name) for name in ("max", "current", "stat"))
    monkeypatch.setattr(module, "_cgroup_files", lambda: (files,))
    assert free_memory() == 150_000
    (tmp_path / "max").write_text("max\n")
    free = free_memory()
    assert free is not None
    assert free > 150_000


def test_limits_of_a_service_and_of_what_it_is_part_of_count(tmp_path: Path) -> None:
    for path in ("system.slice/memory.max", "system.slice/serving.service/memory.max", "other.slice/memory.max"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    found = list(groups_of("0::/system.slice/serving.service\n", str(tmp_path)))
    names = ("memory.max", "memory.current", "memory.stat")
    service = tmp_path / "system.slice" / "serving.service"
    assert found == [tuple(str(folder / name) for name in names) for folder in (service.parent, service)]


def test_a_container_sees_its_group_at_the_root_whatever_the_machine_calls_it(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").touch()
    listing = "9:cpu,cpuacct:/docker/5a\n4:memory:/docker/5a\n0::/../5a\n"
    (files,) = groups_of(listing, str(tmp_path))
    assert files[0] == str(tmp_path / "memory" / "memory.limit_in_bytes")
