"""What a node does with a pod, without a cluster: probes, the stop, and the way of connections to pods.

Of the Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes" and "Pod Lifecycle". All times of
a pod are divided by ``SPEED`` but for the time-out of a probe.
"""

import asyncio
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any

import grpc
from serving import Serving

from pyserving.protos import messages

SPEED = 5.0
USER_AGENT = "kube-probe/1.34"
WAIT = 60.0


def succeeds(probe: dict[str, Any], ports: dict[int, int]) -> bool:
    """Asks once. ``ports``: where the ports of the container are."""
    timeout = probe.get("timeoutSeconds", 1)
    if "httpGet" in probe:
        return _http_get(probe["httpGet"]["path"], ports[probe["httpGet"]["port"]], timeout)
    if "grpc" in probe:
        return _grpc_check(probe["grpc"].get("service", ""), ports[probe["grpc"]["port"]], timeout)
    return _connects(ports[probe["tcpSocket"]["port"]], timeout)


def _http_get(path: str, port: int, timeout: float) -> bool:
    """Any status from 200 to 399 is a success. Each probe has a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"})
        return 200 <= connection.getresponse().status < 400
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _grpc_check(service: str, port: int, timeout: float) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.primary_user_agent", USER_AGENT)]) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer = check(messages.HealthCheckRequest(service=service).SerializeToString(), timeout=timeout)
        except grpc.RpcError:
            return False
    serving = messages.HealthCheckResponse.ServingStatus.Value("SERVING")
    return bool(messages.HealthCheckResponse.FromString(answer).status == serving)


def _connects(port: int, timeout: float) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout).close()
    except OSError:
        return False
    return True


class Pod:
    """A server that was started as a container of it says, and the kubelet that watches it."""

    def __init__(self, server: Serving, container: dict[str, Any], grace: float, ports: dict[str | int, int]) -> None:
        """``grace``: terminationGracePeriodSeconds; ``ports``: by their names and numbers in the container."""
        self.server = server
        self.asked: Counter[str] = Counter()
        """How often each probe was asked."""
        self.started = threading.Event()
        self.restarts = 0
        """How often it would have been restarted."""
        self._container, self._grace, self._ports = container, grace, ports
        self._ready = False
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._start_up, daemon=True)]
        self._threads[0].start()

    @property
    def ready(self) -> bool:
        return self._ready

    def wait_until(self, ready: bool) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._ready is ready, WAIT), self.server.log()

    def has_no_hook(self) -> None:
        """As if the container named no preStop."""
        self._container = {name: value for name, value in self._container.items() if name != "lifecycle"}

    def terminate(self) -> int:
        """preStop, SIGTERM, and SIGKILL once the grace period is over, which begins with preStop. The exit code."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(WAIT)
        end = time.monotonic() + self._grace / SPEED
        time.sleep(self._container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) / SPEED)
        self.server.process.send_signal(signal.SIGTERM)
        try:
            return self.server.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.server.process.kill()
            return self.server.process.wait(WAIT)

    def _start_up(self) -> None:
        """Nothing else is asked before the startup probe has succeeded."""
        probe = self._container.get("startupProbe")
        if probe is not None and not self._ask("startupProbe", probe, lambda good: good):
            return
        self.started.set()
        for name, on_result in (("readinessProbe", self._set_ready), ("livenessProbe", lambda good: False)):
            arguments = (name, self._container[name], on_result)
            self._threads.append(threading.Thread(target=self._ask, args=arguments, daemon=True))
            self._threads[-1].start()

    def _set_ready(self, good: bool) -> bool:
        with self._changed:
            self._ready = good
            self._changed.notify_all()
        return False

    def _ask(self, name: str, probe: dict[str, Any], on_result: Callable[[bool], bool]) -> bool:
        """Asks until ``on_result`` says that it is enough (True), or the pod is stopped or restarted (False)."""
        failures = 0
        while not self._stopped.is_set():
            good = succeeds(probe, self._ports)  # type: ignore[arg-type]
            self.asked[name] += 1
            failures = 0 if good else failures + 1
            if good or failures >= probe.get("failureThreshold", 3):
                if not good and name != "readinessProbe":
                    self.restarts += 1
                    return False
                if on_result(good):
                    return True
            self._stopped.wait(probe.get("periodSeconds", 10) / SPEED)
        return False


class Node:
    """Takes connections for a Service, and leads each to one of the pods that it has heard of, as kube-proxy does.

    A connection that stands stays with its pod. One to a pod that is gone is refused; nothing is tried twice.
    """

    def __init__(self, delay: float) -> None:
        """``delay``: seconds until it hears that a pod is or is no longer ready."""
        self._delay = delay
        self._pods: list[dict[str, int]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers = {name: self._on_loop(self._listen(name)) for name in ("http", "grpc")}
        self.ports = {name: server.sockets[0].getsockname()[1] for name, server in self._servers.items()}

    def add(self, ports: dict[str, int]) -> None:
        self._loop.call_soon_threadsafe(self._loop.call_later, self._delay, self._pods.append, ports)

    def remove(self, ports: dict[str, int]) -> None:
        self._loop.call_soon_threadsafe(self._loop.call_later, self._delay, self._pods.remove, ports)

    def wait_for(self, number: int) -> None:
        """Until it has heard of so many pods."""
        end = time.monotonic() + WAIT
        while len(self._pods) != number:
            assert time.monotonic() < end, self._pods
            time.sleep(0.01)

    def close(self) -> None:
        self._on_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT)
        self._loop.close()

    def _on_loop(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT)

    async def _listen(self, name: str) -> asyncio.Server:
        async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            try:
                there = await asyncio.open_connection("127.0.0.1", random.choice(self._pods)[name])
            except (OSError, IndexError):
                writer.transport.abort()
                return
            await asyncio.gather(self._copy(reader, there[1]), self._copy(there[0], writer))

        return await asyncio.start_server(lead, "127.0.0.1", 0)

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def _close(self) -> None:
        for server in self._servers.values():
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
