"""A name server for one name: what the DNS of a cluster says of a headless Service."""

import socket
import struct
import threading
from collections import Counter

_A = 1
_IN = 1
_TTL_SECONDS = 1


class TinyDns:
    """Answers questions (RFC 1035, 4.1) for A records with ``addresses``, which may change, and others with none."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked: Counter[str] = Counter()
        """How often addresses of each name were asked for."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()

    def _answer(self) -> None:
        while True:
            question, client = self._socket.recvfrom(4096)
            if not question:
                return
            labels, end = [], 12
            while length := question[end]:
                labels.append(question[end + 1 : end + 1 + length].decode())
                end += 1 + length
            kind, _ = struct.unpack_from("!HH", question, end + 1)
            addresses = list(self.addresses) if kind == _A else []
            if kind == _A:
                self.asked[".".join(labels)] += 1
            records = b"".join(
                # the name is the one at offset 12, that of the question
                struct.pack("!HHHIH", 0xC00C, _A, _IN, _TTL_SECONDS, 4) + socket.inet_aton(address)
                for address in addresses
            )
            # a response, authoritative, recursion asked for and offered; one question, the answers
            head = question[:2] + struct.pack("!HHHHH", 0x8580, 1, len(addresses), 0, 0)
            self._socket.sendto(head + question[12 : end + 5] + records, client)
