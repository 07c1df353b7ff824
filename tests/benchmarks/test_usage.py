"""CPU time and memory of a whole tree of processes, and an end that leaves none of it behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import usage
from benchmarks.running import free_port, running, wait_for_port

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")

FAMILY = """
import socket, subprocess, sys, time
script = "import time; kept = b'x' * 50_000_000; print(1, flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
end = time.process_time() + 0.2
while time.process_time() < end: pass
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""


def test_a_tree_is_counted_whole_and_stopped_whole() -> None:
    port = free_port()
    with running([sys.executable, "-c", FAMILY, port], port) as pid:
        used, tree = usage.of(pid), usage.tree(pid)
        assert used.processes == len(tree) == 2
        assert used.cpu_seconds >= 0.2
        assert used.resident_mb > 50
        assert tree[1].parent == pid
    assert [usage.started(process.pid) for process in tree] in ([None, None], [None, tree[1].started])
    with pytest.raises(ProcessLookupError):
        usage.of(pid)


def test_the_rss_of_one_process_is_what_the_kernel_says() -> None:
    command = [sys.executable, "-c", "print(1, flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        said = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6
        assert usage.of(process.pid).resident_mb == pytest.approx(said, rel=0.1)
        process.communicate(b"\n")


def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        pytest.raises(RuntimeError, match="ended with 1\nno such model"),
        running(command, free_port(), log=tmp_path / "log"),
    ):
        pass


def test_a_port_that_stays_closed_is_given_up() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with pytest.raises(RuntimeError, match="took over 0 s"):
            wait_for_port(process, free_port(), 0)
        process.communicate(b"\n")
