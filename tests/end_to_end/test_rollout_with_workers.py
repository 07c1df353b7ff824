"""The gate, promotions and shadow traffic hold for all workers alike."""

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from serving import Serving
from waiting import wait_until

from pyserving.protos import messages
from pyserving.wire.tensor_proto import write_tensor
from pyserving.wire.tfrecord import frame_record

np = pytest.importorskip("numpy")

CONFIG = """
model_config_list {{
  config {{
    name: "m" base_path: "{base}" model_platform: "tensorflow"
    pyserving {{
      gate {{
        golden_requests: "{golden}"
        shadow {{ requests: 12 max_disagreement: 0 timeout_seconds: 60 }}
      }}
    }}
  }}
}}
"""
TABLE = "key,value\na,{a}\nb,{b}\n"
KEYS = ("a", "b")


def write_table(base: Path, version: int, a: int, b: int) -> None:
    folder = base.parent / f"new-{version}"
    folder.mkdir()
    (folder / "table.csv").write_text(TABLE.format(a=a, b=b))
    base.mkdir(exist_ok=True)
    folder.rename(base / str(version))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    write_table(tmp_path / "m", 1, 1, 2)
    log = messages.PredictLog()
    array = np.empty(1, object)
    array[0] = b"a"
    log.request.inputs["key"].CopyFrom(messages.TensorProto.FromString(write_tensor(array)))
    log.response.outputs["value"].CopyFrom(messages.TensorProto.FromString(write_tensor(np.array([1], np.int64))))
    log.response.outputs["found"].CopyFrom(messages.TensorProto.FromString(write_tensor(np.array([True]))))
    golden = tmp_path / "golden"
    golden.write_bytes(frame_record(messages.PredictionLog(predict_log=log).SerializeToString()))
    config = tmp_path / "models.config"
    config.write_text(CONFIG.format(base=tmp_path / "m", golden=golden))
    running = Serving(f"--config={config}", "--workers=2", "--poll=0.05").wait_until_ready()
    yield running
    running.stop()


def test_the_gate_and_promotions_with_workers(server: Serving, tmp_path: Path) -> None:
    base = tmp_path / "m"
    answers: list[int] = []
    failures: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        # A connection for each few requests, so that both workers are asked.
        while not stop.is_set():
            connection = HTTPConnection("127.0.0.1", server.rest, timeout=30)
            for _ in range(3):
                connection.request("POST", "/v1/models/m:predict", json.dumps({"inputs": ["b"]}))
                answer = connection.getresponse()
                body = json.load(answer)
                if answer.status != 200:
                    failures.append(body)
                else:
                    answers.append(body["outputs"]["value"][0])
            connection.close()

    def states() -> dict[int, tuple[str, str]]:
        listed = server.get("/v1/models/m")[1]["model_version_status"]
        return {int(one["version"]): (one["state"], one["status"]["error_message"]) for one in listed}

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answers) > 10 or bool(failures))
        write_table(base, 2, 9, 2)
        wait_until(lambda: states().get(2, ("", ""))[0] == "END")
        assert "check of answers: 1 of 1 golden requests" in states()[2][1]
        write_table(base, 3, 1, 3)
        wait_until(lambda: states().get(3, ("", ""))[0] == "END")
        assert "answers to live requests were not those of version 1" in states()[3][1]
        write_table(base, 4, 1, 2)
        wait_until(lambda: states().get(4, ("", ""))[0] == "AVAILABLE" and states()[1][0] == "END")
        assert set(answers) == {2}
        status, moved = server.post_json("/v1/models/m:rollback", {})
        assert (status, moved) == (200, {"version": "1", "previous_version": "4"})
        assert {server.get("/v1/models")[1]["models"]["m"]["default_version"] for _ in range(8)} == {"1"}
        status, moved = server.post_json("/v1/models/m:promote", {"version": 4})
        assert (status, moved) == (200, {"version": "4", "previous_version": "1"})
        assert {server.get("/v1/models")[1]["models"]["m"]["default_version"] for _ in range(8)} == {"4"}
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
