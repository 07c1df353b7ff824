"""Steady traffic on both protocols, which counts what it gets."""

import threading
import time
from collections import Counter

import numpy as np
from clients import GrpcClient, RestClient


class Traffic:
    """Four threads that ask without a pause, each waiting for its answer. A context manager."""

    def __init__(self, rest_port: int, grpc_port: int, images: np.ndarray) -> None:
        self.answers: Counter[str] = Counter()
        """By protocol."""
        self.versions: Counter[int] = Counter()
        """Which version answered, as gRPC says."""
        self.failures: list[str] = []
        self.first_of: dict[int, float] = {}
        """When a version answered for the first time, in seconds since the epoch."""
        self._images = images
        self._stopped = threading.Event()
        clients = [("REST", RestClient(rest_port)), ("gRPC", GrpcClient(grpc_port))] * 2
        self._threads = [threading.Thread(target=self._ask, args=pair, daemon=True) for pair in clients]

    def _ask(self, protocol: str, client: RestClient | GrpcClient) -> None:
        for i in range(10_000_000):
            if self._stopped.is_set():
                return
            at = i % len(self._images)
            try:
                answer = client.digits(self._images[at : at + 1])
            except Exception as error:
                self.failures.append(f"{protocol}: {error}")
                continue
            self.answers[protocol] += 1
            if answer.version:
                self.versions[answer.version] += 1
                self.first_of.setdefault(answer.version, time.time())

    def wait_for(self, version: int, timeout: float) -> None:
        """Until that version answers. Raises TimeoutError."""
        end = time.monotonic() + timeout
        while version not in self.first_of:
            if time.monotonic() > end:
                raise TimeoutError(f"version {version} did not answer within {timeout:g} s")
            time.sleep(0.01)

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(20)
