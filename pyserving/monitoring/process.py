"""The server and its processes, seen from outside."""

import os
import platform
import time

import pyserving
from pyserving.monitoring.metrics import Gauge, Labels, Registry


def add_server_metrics(registry: Registry) -> None:
    """Build and start of the server."""
    started = time.time()
    build: dict[Labels, float] = {(pyserving.__version__, platform.python_version()): 1}
    registry.add(Gauge("pyserving_build_info", ["version", "python"], lambda: build))
    registry.add(Gauge("pyserving_start_time_seconds", [], lambda: {(): started}))


def add_process_metrics(registry: Registry) -> None:
    """What this process takes: CPU time, and, where the system tells it in /proc, memory."""
    registry.add(Gauge("pyserving_cpu_seconds_total", [], lambda: {(): time.process_time()}, only_grows=True))
    if os.path.exists("/proc/self/statm"):
        registry.add(Gauge("pyserving_resident_memory_bytes", [], lambda: {(): _resident_bytes()}))


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
