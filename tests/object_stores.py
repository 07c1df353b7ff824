"""Object stores on this machine that are like the real ones, and what they are filled with."""

import socket
import threading
import time
from contextlib import suppress
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION_FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights" * 1000,
}


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


class Fault(Enum):
    """What happens to the body of a file on its way."""

    CUT = "the connection breaks in the middle of the body"
    TRUNCATED = "half the body comes, as if it were all"
    WRONG = "one bit of the body is another"
    REFUSED = "503 comes instead"
    SLOW = "the body comes in drops"


class HttpProxy(ThreadingHTTPServer):
    """Passes HTTP requests on to a port of this machine, and harms some of the answers."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.target = port
        self.port: int = self.server_address[1]
        self.fault: Fault | None = None
        """What happens to files whose name has ``harmed``, ..."""
        self.times: int | None = None
        """... so often; None: always."""
        self.harmed = "variables.data-"
        self.happened = 0
        self.requests: list[tuple[str, str]] = []
        """Method and path of each."""
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def harm(self, fault: Fault | None, times: int | None = None) -> None:
        with self.lock:
            self.fault, self.times, self.happened = fault, times, 0

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def fault_for(self, path: str) -> Fault | None:
        with self.lock:
            if self.fault is None or self.harmed not in path or self.times == 0:
                return None
            if self.times is not None:
                self.times -= 1
            self.happened += 1
            return self.fault


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HttpProxy

    def log_message(self, *_: object) -> None:
        pass

    def _pass(self) -> None:
        proxy = self.server
        with proxy.lock:
            proxy.requests.append((self.command, self.path))
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = HTTPConnection("127.0.0.1", proxy.target)
        target.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            target.putheader(name, value)
        target.endheaders(sent)
        answer = target.getresponse()
        body = answer.read()
        target.close()
        fault = proxy.fault_for(self.path) if self.command == "GET" and answer.status in (200, 206) else None
        if fault is Fault.REFUSED:
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault is Fault.TRUNCATED:
            body = body[: len(body) // 2]
        if fault is Fault.WRONG:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        self.send_response_only(answer.status, answer.reason)
        told = {"content-length", "transfer-encoding", "connection"}
        for name, value in answer.getheaders():
            if name.lower() not in told:
                self.send_header(name, value)
        length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        match fault:
            case Fault.CUT:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            case Fault.SLOW:
                for start in range(0, len(body), 1 + len(body) // 20):
                    self.wfile.write(body[start : start + 1 + len(body) // 20])
                    self.wfile.flush()
                    time.sleep(0.01)
            case _:
                self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815
