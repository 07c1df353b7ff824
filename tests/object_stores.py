"""Object stores on this machine that are like the real ones, and what they are filled with."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

VERSION_FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights" * 1000,
}


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class FaultyProxy:
    """Passes connections on to a port of this machine, and does with what comes back as it is told."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.down = False
        """Take no connection."""
        self.cut_after: int | None = None
        """Bytes from the server, of all connections, after which all break."""
        self.hold_after: int | None = None
        """Bytes from the server, of all connections, after which nothing passes any more, and nothing breaks."""
        self.passed = 0
        """Bytes from the server."""
        self.held = threading.Event()
        """It has come to ``hold_after``."""
        self._go_on = threading.Event()
        self._go_on.set()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.go_on()
        self.break_all()

    def break_all(self) -> None:
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def go_on(self) -> None:
        """Lets pass what is held."""
        self.hold_after = None
        self._go_on.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.down or self._is_used_up():
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._connections += [client, server]
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _is_used_up(self) -> bool:
        return self.cut_after is not None and self.passed >= self.cut_after

    def _pump(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 14):
                if counts:
                    self.passed += len(data)
                    if self._is_used_up():
                        self.break_all()
                    if self.hold_after is not None and self.passed >= self.hold_after:
                        self._go_on.clear()
                        self.held.set()
                    self._go_on.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
