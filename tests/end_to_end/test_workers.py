"""Several worker processes on one socket behave as one server."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import grpc
import pytest
from client_threads import ClientThreads
from prometheus_client.parser import text_string_to_metric_families
from serving import Serving
from waiting import wait_until

from pyserving.protos import messages
from pyserving.wire.tfrecord import read_records

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc to look at processes")

PREDICT = "/v1/models/half:predict"
BODY = json.dumps({"instances": [1.0, 2.0]}).encode()
WAIT = 60.0


class Family:
    """A server and its processes."""

    def __init__(self, *arguments: str) -> None:
        self.server = Serving(*arguments, "--workers=2", "--poll=0.05").wait_until_ready()

    def workers(self) -> list[int]:
        """Their process ids."""
        (nursery,) = children(self.server.process.pid)
        return children(nursery)

    def processes(self) -> list[int]:
        (nursery,) = children(self.server.process.pid)
        return [self.server.process.pid, nursery, *children(nursery)]

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.server.rest, timeout=30)

    def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        url = f"http://127.0.0.1:{self.server.rest}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            page = answer.read().decode()
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if "le" not in sample.labels
        }

    def requests(self, model: str = "half") -> float:
        counts = self.metrics()
        names = (":tensorflow:serving:request_count", ":tensorflow:serving:request_count_total")
        return next((counts[name, (model, "OK")] for name in names if (name, (model, "OK")) in counts), 0.0)

    def states(self, model: str) -> dict[int, str]:
        answer = self.server.get(f"/v1/models/{model}")[1]
        return {int(shown["version"]): shown["state"] for shown in answer["model_version_status"]}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def exists(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def connections(pid: int, port: int) -> int:
    """How many connections a process has accepted on this port."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "01":
            inodes.add(f"socket:[{fields[9]}]")
    found = 0
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{entry}") in inodes
        except FileNotFoundError:
            continue  # closed just now
    return found


def ask(connection: HTTPConnection, path: str = PREDICT, body: bytes = BODY) -> dict[str, object]:
    connection.request("POST", path, body)
    response = connection.getresponse()
    text = response.read()
    assert response.status == 200, text
    answer: dict[str, object] = json.loads(text)
    return answer


class Clients(ClientThreads):
    """Connections that ask for a model's version without a pause."""

    def __init__(self, family: Family, number: int) -> None:
        self.failures: list[str] = []
        self.answers: list[tuple[float, float, int]] = []
        """When it was asked, and answered, and which version answered."""
        self._family = family
        super().__init__([self._run] * number)

    def _run(self) -> None:
        body = json.dumps({"inputs": [0.0]}).encode()
        while not self._stopped.is_set():
            connection = self._family.connect()
            try:
                while not self._stopped.is_set():
                    asked = time.monotonic()
                    outputs = ask(connection, "/v1/models/versioned:predict", body)["outputs"]
                    self.answers.append((asked, time.monotonic(), outputs["version"][0]))  # type: ignore[index]
            except (OSError, HTTPException, AssertionError) as error:
                self.failures.append(repr(error))
            finally:
                connection.close()

    def wait_for_more(self, number: int) -> None:
        wanted = len(self.answers) + number
        wait_until(lambda: len(self.answers) >= wanted, f"{number} more requests are answered")


@pytest.fixture(scope="module")
def folders(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the shared server reads: a config, and the folder of a model whose versions change."""
    folder = tmp_path_factory.mktemp("workers")
    shutil.copytree(models_folder / "versioned" / "1", folder / "versioned" / "1")
    logging = f"""logging_config {{
        log_collector_config {{ filename_prefix: "{folder}/log/half" }}
        sampling_config {{ sampling_rate: 1 }}
    }}"""
    entries = [
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {more} }}'
        for name, path, more in (
            ("half", models_folder / "half_plus_two_tf2", logging),
            ("versioned", folder / "versioned", ""),
        )
    ]
    (folder / "models.config").write_text(f"model_config_list {{ {' '.join(entries)} }}")
    return folder


@pytest.fixture(scope="module")
def family(folders: Path) -> Iterator[Family]:
    """One server for all tests that leave it as it was; the last thing is a stop."""
    running = Family(f"--config={folders}/models.config", f"--grpc-socket={folders}/grpc.sock")
    try:
        yield running
    finally:
        assert running.server.stop() == 0, running.server.log()


def test_connections_are_shared_and_requests_counted_once(family: Family) -> None:
    before = family.requests()
    opened: list[HTTPConnection] = []

    def shares() -> list[int]:
        return [connections(pid, family.server.rest) for pid in family.workers()]

    def are_shared() -> bool:
        opened.append(family.connect())
        assert ask(opened[-1]) == {"predictions": [2.5, 3.0]}
        assert sum(shares()) == len(opened)
        # A worker that the system has stopped for a moment leaves some to the other, and gets the next ones.
        return len(opened) >= 8 and max(shares()) - min(shares()) <= 4

    try:
        wait_until(are_shared, lambda: str(shares()))
    finally:
        for connection in opened:
            connection.close()
    assert family.requests() == before + len(opened)


def without_engines(model: dict[str, Any]) -> dict[str, Any]:
    """Each worker looks for engines of its own."""
    versions = [{key: value for key, value in one.items() if key != "engines"} for one in model["versions"]]
    return {**model, "versions": versions}


def test_any_worker_answers_the_console_for_all(family: Family) -> None:
    opened = [family.connect() for _ in range(8)]
    answers = []
    try:
        for connection in opened:
            connection.request("POST", PREDICT, BODY)
            connection.getresponse().read()
        for connection in opened:
            connection.request("GET", "/console/api/live")
            answers.append(json.load(connection.getresponse()))
            connection.request("GET", "/openapi.json")
            assert "/v1/models/half:predict" in json.load(connection.getresponse())["paths"]
    finally:
        for connection in opened:
            connection.close()
    first = answers[0]
    assert [model["name"] for model in first["models"]] == ["half", "versioned"]
    assert first["metrics"]["workers"] == 2
    assert first["metrics"]["requests"]["half"]["ok"] >= 8
    states = [event for event in first["events"] if event["state"]]
    assert {event["state"] for event in states} >= {"LOADING", "AVAILABLE"}
    for answer in answers[1:]:
        assert list(map(without_engines, answer["models"])) == list(map(without_engines, first["models"]))
        assert answer["metrics"]["requests"] == first["metrics"]["requests"]
        assert [event for event in answer["events"] if event["state"]] == states


def test_a_unix_socket_is_shared_too(family: Family, folders: Path) -> None:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="half"))
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(1)
    for address in (f"unix:{folders}/grpc.sock", f"127.0.0.1:{family.server.grpc}"):
        with grpc.insecure_channel(address) as channel:
            predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            answer = messages.PredictResponse.FromString(predict(request.SerializeToString(), timeout=30))
        assert list(answer.outputs["y"].float_val) == [2.5]


def test_a_swap_fails_no_request_and_what_is_called_unloaded_answers_no_more(
    family: Family, folders: Path, models_folder: Path
) -> None:
    with Clients(family, 8) as clients:
        clients.wait_for_more(50)
        for number in (2, 3):
            fresh = folders / f"export-{number}"
            shutil.copytree(models_folder / "versioned" / str(number), fresh)
            fresh.rename(folders / "versioned" / str(number))
            watched = [family.connect() for _ in range(4)]

            def state(connection: HTTPConnection, version: int = number - 1) -> str:
                connection.request("GET", f"/v1/models/versioned/versions/{version}")
                shown = json.load(connection.getresponse())
                return str(shown["model_version_status"][0]["state"])

            wait_until(lambda w=watched: any(state(c) != "AVAILABLE" for c in w), "the old version goes")  # type: ignore[misc]
            gone = time.monotonic()
            clients.wait_for_more(100)
            for connection in watched:
                connection.close()
            late = [version for asked, _, version in clients.answers if asked > gone]
            assert late
            assert set(late) == {number}
    assert clients.failures == []


def test_a_new_config_reaches_all_workers(family: Family, models_folder: Path, folders: Path) -> None:
    config = messages.ReloadConfigRequest()
    for name, path in (
        ("half", models_folder / "half_plus_two_tf2"),
        ("versioned", folders / "versioned"),
        ("three", models_folder / "half_plus_three"),
    ):
        entry = config.config.model_config_list.config.add(name=name, base_path=str(path), model_platform="tensorflow")
    version = int(next((models_folder / "half_plus_three").iterdir()).name)
    entry.version_labels["stable"] = version
    with grpc.insecure_channel(f"127.0.0.1:{family.server.grpc}") as channel:
        reload = channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")
        reload(config.SerializeToString(), timeout=30)
        opened = [family.connect() for _ in range(8)]
        try:
            for connection in opened:
                for path in ("/v1/models/three:predict", "/v1/models/three/labels/stable:predict"):
                    assert ask(connection, path, BODY)["predictions"] == [30.5, 31.0]
            assert min(connections(pid, family.server.rest) for pid in family.workers()) >= 1
            # A config that is refused says why, whichever worker takes it.
            entry.base_path = "relative"
            with pytest.raises(grpc.RpcError) as caught:
                reload(config.SerializeToString(), timeout=30)
            assert "absolute path" in caught.value.details()
        finally:
            for connection in opened:
                connection.close()


def test_a_killed_worker_takes_only_its_own_requests_along_and_comes_back(family: Family) -> None:
    before = family.requests("versioned")
    restarts = family.metrics()["pyserving_worker_restarts_total", ()]
    with Clients(family, 8) as clients:
        clients.wait_for_more(100)
        counted = family.requests("versioned")
        assert counted > before
        victim, survivor = family.workers()
        held = connections(victim, family.server.rest)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: family.metrics()["pyserving_worker_restarts_total", ()] > restarts, "it is replaced")
        assert family.requests("versioned") >= counted
        wait_until(lambda: family.metrics()["pyserving_workers", ()] == 2, "its successor takes part")
        clients.wait_for_more(100)
        workers = family.workers()
        assert survivor in workers
        assert victim not in workers
        # The clients of the victim have connected again: the survivor took them, and the successor takes new ones.
        opened = [family.connect() for _ in range(8)]
        for connection in opened:
            ask(connection)
        (successor,) = set(workers) - {survivor}
        assert connections(successor, family.server.rest) >= 2
        for connection in opened:
            connection.close()
    assert len(clients.failures) <= held
    assert not [failure for failure in clients.failures if "AssertionError" in failure]


def test_a_stop_under_load_answers_what_was_accepted(folders: Path, models_folder: Path) -> None:
    """And each worker has written its requests to a file of its own."""
    log = folders / "log"
    shutil.rmtree(log, ignore_errors=True)
    running = Family(f"--config={folders}/models.config")
    opened = [running.connect() for _ in range(8)]
    for connection in opened:
        ask(connection)
    processes = running.processes()
    with Clients(running, 8) as clients:
        clients.wait_for_more(200)
        assert running.server.stop() == 0, running.server.log()
        clients._stopped.set()
    for failure in clients.failures:
        assert re.search("RemoteDisconnected|ConnectionRefused|ConnectionReset|BrokenPipe", failure), failure
    wait_until(lambda: not any(map(exists, processes)), "all processes have ended")
    files = list(log.iterdir())
    assert len({file.name.split("-")[-2] for file in files}) == 2, files
    records = 0
    for file in files:
        with open(file, "rb") as content:
            records += sum(1 for _ in read_records(content))
    assert records == 8


def test_no_process_is_left_when_the_supervisor_is_killed(models_folder: Path) -> None:
    running = Family(str(models_folder / "half_plus_two_tf2"), "--name=half")
    processes = running.processes()
    assert len(processes) == 4
    connection = running.connect()
    ask(connection)
    running.server.process.kill()
    running.server.process.wait()
    wait_until(lambda: not any(map(exists, processes)), "all processes have ended")
    connection.close()
    with socket.socket() as probe:  # nobody listens on the port any more
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", running.server.rest))
        probe.listen()


def test_a_second_signal_ends_all_at_once(models_folder: Path) -> None:
    running = Family(str(models_folder / "half_plus_two_tf2"), "--name=half")
    processes = running.processes()
    with socket.create_connection(("127.0.0.1", running.server.rest)) as connection:
        # A request that is never complete keeps its worker from ending.
        connection.sendall(b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        wait_until(
            lambda: sum(connections(pid, running.server.rest) for pid in running.workers()) == 1, "it is accepted"
        )
        running.server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining" in running.server.log(), "it drains")
        running.server.process.send_signal(signal.SIGTERM)
        assert running.server.process.wait(30) == 128 + signal.SIGTERM
        wait_until(lambda: not any(map(exists, processes)), "all processes have ended")


def test_a_model_that_writes_state_is_refused(models_folder: Path, tmp_path: Path) -> None:
    for name in ("counter", "half_plus_two_tf2", "vocabulary", "initialised", "flowers"):
        (tmp_path / name).symlink_to(models_folder / name)
    server = Serving(str(tmp_path), "--workers=2")
    try:
        wait_until(lambda: server.get("/v1/models/counter")[0] == 200, "the server answers")

        def settled() -> bool:
            shown = server.get("/v1/models")[1]["models"]
            states = Counter(v["state"] for model in shown.values() for v in model["model_version_status"])
            return states == {"AVAILABLE": 4, "END": 1}

        wait_until(settled, "four models are available and one has ended")
        (shown,) = server.get("/v1/models/counter")[1]["model_version_status"]
        assert shown["status"]["error_code"] == "FAILED_PRECONDITION"
        assert "cannot be served by several workers: running add, set changes" in shown["status"]["error_message"]
    finally:
        assert server.stop() == 0


def test_the_original_command_does_not_start_with_such_a_model(models_folder: Path) -> None:
    command = [sys.executable, "-m", "pyserving.cli.model_server", "--port=0", "--rest_api_port=0", "--workers=2"]
    base = f"--model_base_path={models_folder / 'counter'}"
    ended = subprocess.run([*command, base], capture_output=True, text=True, timeout=WAIT, check=False)
    assert ended.returncode == 255
    assert "cannot be served by several workers" in ended.stderr


def test_with_one_worker_it_is_served(models_folder: Path) -> None:
    server = Serving(str(models_folder / "counter"), "--workers=1").wait_until_ready()
    try:
        assert children(server.process.pid) == []
        answers = [
            server.post_json("/v1/models/counter:predict", {"signature_name": "add", "inputs": [1]}) for _ in range(2)
        ]
        assert [answer["outputs"] for _, answer in answers] == [[2], [4]]
    finally:
        assert server.stop() == 0
