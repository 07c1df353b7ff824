"""The wall clock jumps under load, as when an administrator or NTP sets it."""

import mmap
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_clients import OK, Clients
from chaos_server import Folder, serving
from waiting import wait_until

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]

Tell = Callable[[str, Clients], None]
DAY = 86_400


class WallClock:
    """Of the processes that are started with ``env``. The clock of the whole machine is not ours to set."""

    def __init__(self, folder: Path) -> None:
        library, ahead = folder / "wall_clock.so", folder / "ahead"
        source = Path(__file__).parent / "wall_clock.c"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        ahead.write_bytes(bytes(8))
        with ahead.open("r+b") as file:
            self._ahead = mmap.mmap(file.fileno(), 8)
        self.env = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(ahead)}

    def set(self, seconds: int) -> None:
        """So far ahead of this machine's from now on."""
        self._ahead[:] = struct.pack("=q", seconds)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_wall_clock_jumps(folder: Folder, tell: Tell, tmp_path: Path, workers: int) -> None:
    clock = WallClock(tmp_path)
    config = folder.configure()
    with serving(config, f"--workers={workers}", env=clock.env) as server, Clients(server, "half") as clients:
        clients.broken()
        for version, days in enumerate((2, -30, 0), 2):
            clock.set(days * DAY)
            clients.wait_for(300)
            folder.put("half", version)
            wait_until(lambda at=version: folder.is_at(server, at), f"version {version} is available")  # type: ignore[misc]
            clients.wait_for(300)
        days_seen = {line[:10] for line in server.log().splitlines() if line[:2] == "20"}
    assert len(days_seen) >= 3, days_seen  # it has jumped, and back
    tell(f"the wall clock jumps by +2, -32 and +30 days, a swap after each; workers: {workers}", clients)
    assert clients.codes().keys() == {OK}, clients.codes()
