"""A server that is started, probed and stopped as kubelet does by deploy/kubernetes, and pods that take turns."""

import shutil
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubelet import SPEED, Node, Pod, succeeds
from manifests import only, overlay
from serving import Serving, free_port
from steady_clients import DOUBLE, WAIT, SteadyClients
from waiting import wait_until

SLOW = """
import time
import numpy as np
from pyserving import Model, Tensor

class Slow(Model):
    def predict(self, seconds: Tensor[np.float32]) -> Tensor[np.float32]:
        time.sleep(float(seconds))
        return seconds
"""

StartPod = Callable[..., Pod]


def spec() -> dict[str, Any]:
    return dict(only(overlay("volume"), "Deployment")["spec"]["template"]["spec"])


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name, code in (("double", DOUBLE), ("slow", SLOW)):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "1" / "model.py").write_text(code)
    return tmp_path / "models"


@pytest.fixture
def start_pod(models: Path) -> Iterator[StartPod]:
    """Starts a pod as the Deployment says; arguments are added to its own, ``grace`` is in seconds of the pod."""
    pods: list[Pod] = []

    def start(*arguments: str, grace: float | None = None) -> Pod:
        pod = spec()
        (container,) = pod["containers"]
        here = {8501: free_port(), 8500: free_port()}
        words = [word.replace("/models", str(models)) for word in container["args"]]
        server = Serving(*words, "--python-models=on", *arguments, ports=(here[8501], here[8500]))
        by_name = {port["name"]: here[port["containerPort"]] for port in container["ports"]}
        seconds = pod["terminationGracePeriodSeconds"] if grace is None else grace
        pods.append(Pod(server, container, seconds, {**by_name, **here}))
        return pods[-1]

    yield start
    for pod in pods:
        if pod.server.process.poll() is None:
            pod.terminate()


def test_probes_of_a_pod(models: Path, start_pod: StartPod) -> None:
    """Nothing but the startup probe is asked until the models are there. One that goes makes the pod not ready, and
    does not restart it."""
    late = models / "late"
    late.mkdir()
    (late / "1").mkdir()
    (late / "1" / "model.py").write_text("raise ValueError('not yet')")
    pod = start_pod()
    liveness = spec()["containers"][0]["livenessProbe"]
    while not succeeds(liveness, {"http": pod.server.rest}) or pod.asked["startupProbe"] < 8:  # type: ignore[dict-item]
        assert pod.server.process.poll() is None, pod.server.log()
        threading.Event().wait(0.05)
    assert pod.asked.keys() == {"startupProbe"}
    (models / "next").mkdir()
    (models / "next" / "model.py").write_text(DOUBLE)
    (models / "next").rename(late / "2")
    pod.wait_until(True)
    assert succeeds({"grpc": {"port": 1}}, {1: pod.server.grpc})
    assert succeeds({"grpc": {"port": 1, "service": "late"}}, {1: pod.server.grpc})
    assert not succeeds({"grpc": {"port": 1, "service": "other"}}, {1: pod.server.grpc})
    shutil.rmtree(late / "1")
    shutil.rmtree(late / "2")
    pod.wait_until(False)
    wait_until(lambda: pod.asked["livenessProbe"] >= 2)
    assert pod.restarts == 0
    assert pod.terminate() == 0


def test_a_pod_that_hangs_gets_no_requests(start_pod: StartPod) -> None:
    pod = start_pod()
    pod.wait_until(True)
    pod.server.process.send_signal(signal.SIGSTOP)
    try:
        pod.wait_until(False)
    finally:
        pod.server.process.send_signal(signal.SIGCONT)


def test_what_is_under_way_is_answered_in_the_grace_period(start_pod: StartPod) -> None:
    pod = start_pod()
    pod.wait_until(True)
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(ask_slow(pod, 1.5)))
    asking.start()
    wait_until_asked(pod)
    assert pod.terminate() == 0
    asking.join(WAIT)
    assert answers == [200]


def test_after_the_grace_period_the_pod_is_killed(start_pod: StartPod) -> None:
    """So the server's own grace must be shorter: then it says what it cut off, and ends by itself."""
    killed = start_pod(grace=6)
    killed.wait_until(True)
    ends = start_pod("--grace=0.2")
    ends.wait_until(True)
    for pod, code in ((killed, -signal.SIGKILL), (ends, 0)):
        asking = threading.Thread(target=lambda pod=pod: ask_slow(pod, 30), daemon=True)
        asking.start()
        wait_until_asked(pod)
        assert pod.terminate() == code, pod.server.log()
        asking.join(WAIT)
    assert "cut" in ends.server.log()


def ask_slow(pod: Pod, seconds: float) -> int:
    try:
        return pod.server.post_json("/v1/models/slow:predict", {"inputs": seconds})[0]
    except OSError:
        return 0


def wait_until_asked(pod: Pod) -> None:
    """Until a request is under way."""
    page = f"http://127.0.0.1:{pod.server.rest}/monitoring/prometheus/metrics"
    while True:
        with urllib.request.urlopen(page, timeout=WAIT) as answer:
            if b'pyserving_requests_in_flight{model_name="slow"} 1\n' in answer.read():
                return


@pytest.mark.parametrize("way", ["preStop", "drain delay"])
def test_a_rollout_loses_nothing(start_pod: StartPod, way: str) -> None:
    """maxSurge 1, maxUnavailable 0: a new pod is ready before an old one goes. The node hears of both 3 s later (of the
    pod's time), and until then leads connections to the pod that stops."""
    arguments = () if way == "preStop" else (f"--drain-delay={5 / SPEED}",)
    node = Node(3 / SPEED)

    def started() -> Pod:
        pod = start_pod(*arguments)
        if way == "drain delay":
            pod.has_no_hook()
        return pod

    try:
        pods = [started(), started()]
        for pod in pods:
            pod.wait_until(True)
            node.add(addresses(pod))
        node.wait_for(2)
        with SteadyClients(node.ports["http"], node.ports["grpc"], 4, per_connection=20) as clients:
            clients.wait_for_more(100)
            for old in pods:
                new = started()
                new.wait_until(True)
                node.add(addresses(new))
                node.remove(addresses(old))
                assert old.terminate() == 0
                clients.wait_for_more(100)
        assert clients.outcomes.keys() == {"REST 200", "gRPC OK"}, clients.outcomes
    finally:
        node.close()


def test_without_a_delay_the_rollout_loses_connections(start_pod: StartPod) -> None:
    """That the test above can fail."""
    node = Node(3 / SPEED)
    try:
        pods = [start_pod(), start_pod()]
        for pod in pods:
            pod.wait_until(True)
            pod.has_no_hook()
            node.add(addresses(pod))
        node.wait_for(2)
        with SteadyClients(node.ports["http"], node.ports["grpc"], 4, per_connection=1) as clients:
            clients.wait_for_more(100)
            node.remove(addresses(pods[0]))
            assert pods[0].terminate() == 0
            clients.wait_for_more(100)
        assert clients.outcomes.keys() > {"REST 200", "gRPC OK"}, clients.outcomes
    finally:
        node.close()


def addresses(pod: Pod) -> dict[str, int]:
    return {"http": pod.server.rest, "grpc": pod.server.grpc}
