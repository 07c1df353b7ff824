"""How much memory there is left: of the machine, or of the container or service that this process is in."""

import functools
import os
from collections.abc import Iterator, Sequence


def free_memory() -> int | None:
    """Bytes that can still be used: MemAvailable, or less within a cgroup (v1 or v2). None where the system does not
    say, as where it is not Linux."""
    free = _available("/proc/meminfo")
    if free is None:
        return None
    for limit, used, stat in _cgroup_files():
        most, taken = _number(limit), _number(used)
        if most is not None and taken is not None:
            # Pages of files that were not used lately are given back before anybody is killed.
            free = min(free, most - taken + (_field(stat, "total_inactive_file") or _field(stat, "inactive_file")))
    return max(0, free)


_MOUNT = "/sys/fs/cgroup"
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
_V2 = ("memory.max", "memory.current", "memory.stat")


@functools.cache
def _cgroup_files() -> Sequence[tuple[str, ...]]:
    """Of each group with a limit that holds for this process: the limit, what is used of it, and statistics."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return list(groups_of(file.read(), _MOUNT))
    except OSError:
        return ()


def groups_of(listing: str, mount: str) -> Iterator[tuple[str, ...]]:
    """The files of the groups in a ``/proc/PID/cgroup`` (cgroups(7)) and of all above them. A container sees its own
    group at the root, whatever the listing calls it; a service of systemd has one far below."""
    for line in listing.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (os.path.join(mount, "memory"), _V1) if controllers else (mount, _V2)
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            files = tuple(os.path.join(root, *parts[:depth], name) for name in names)
            if os.path.exists(files[0]):
                yield files


def _available(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return None


def _number(path: str) -> int | None:
    """None where there is no such file, or ``max`` in it."""
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _field(path: str, name: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                key, _, value = line.partition(" ")
                if key == name:
                    return int(value)
    except OSError:
        pass
    return 0
