"""CPU time and memory of a process and all its children, from Linux's /proc (proc(5))."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    cpu_seconds: float
    """User and system time, of the process and of the children that it has waited for."""
    started: int
    """In ticks since boot: with the pid, tells a process from a later one of the same id."""


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_seconds: float
    resident_mb: float
    """RSS in MB of 1e6 bytes. Of files, such as TensorFlow's library, and of shared memory the largest share of any one
    process is taken, because the same pages would be counted again in each; the rest is the sum. For a single process
    that is its RSS."""
    processes: int


def tree(pid: int) -> list[Process]:
    """The process and its descendants; empty if it is gone."""
    children = defaultdict(list)
    own = None
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (process := _read(int(entry.name))) is not None:
            children[process.parent].append(process)
            own = process if process.pid == pid else own
    found = [own] if own else []
    for process in found:  # grows while it is walked
        found += children[process.pid]
    return found


def of(pid: int) -> Usage:
    """What a process and its descendants use at this moment. Raises ProcessLookupError if it is gone."""
    processes = tree(pid)
    if not processes:
        raise ProcessLookupError(f"no process {pid}")
    kinds = [_resident_kb(process.pid) for process in processes]
    kb = sum(anonymous for anonymous, _, _ in kinds) + max(file for _, file, _ in kinds) + max(s for _, _, s in kinds)
    return Usage(sum(process.cpu_seconds for process in processes), kb * 1024 / 1e6, len(processes))


def started(pid: int) -> int | None:
    """When a process was started, in ticks since boot; None if there is none."""
    process = _read(pid)
    return process.started if process else None


def _read(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces; fields[0] is the third of proc(5)
    ticks = sum(int(field) for field in fields[11:15])
    return Process(pid, int(fields[1]), ticks / _TICKS_PER_SECOND, int(fields[19]))


def _resident_kb(pid: int) -> tuple[int, int, int]:
    """Anonymous, file and shared memory. A kernel thread or a process that is gone has none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0, 0
    values = {name: value for name, _, value in (line.partition(":") for line in lines)}
    anonymous, file, shared = (int(values.get(f"Rss{kind}", "0 kB").split()[0]) for kind in ("Anon", "File", "Shmem"))
    return anonymous, file, shared
