"""docs/tutorials.md: every row is run, or is an example whose README tests/examples runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import Serving
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
ROWS = {
    cells[0]: cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| ") and (cells := [cell.strip() for cell in line.strip("|").split(" | ")])
}
ROWS.pop("step", None)

CONFIG = """
model_config_list {
  config { name: "half_plus_two" base_path: "FOLDER/half_plus_two" model_platform: "tensorflow" }
  config { name: "flowers" base_path: "FOLDER/flowers" model_platform: "tensorflow" }
  config { name: "strings" base_path: "FOLDER/strings" model_platform: "tensorflow" }
  config {
    name: "versioned"
    base_path: "FOLDER/versioned"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "canary" value: 2 }
  }
}
"""


@pytest.fixture(scope="module")
def models(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What /models is on the page."""
    folder = tmp_path_factory.mktemp("models")
    for name, origin in {"half_plus_two": "half_plus_two_tf2", "flowers": "", "strings": "", "versioned": ""}.items():
        (folder / name).symlink_to(models_folder / (origin or name))
    (folder / "models.config").write_text(CONFIG.replace("FOLDER", str(folder)))
    (folder / "batching.config").write_text("max_batch_size { value: 8 } batch_timeout_micros { value: 0 }")
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    return folder


# Serving gives ports as `pyserving serve` takes them; of flags that come twice the later one holds.
START = """
import sys
from pyserving.cli.model_server import main
words = [word.replace("--rest-port", "--rest_api_port") for word in sys.argv[1:] if not word.startswith("--host")]
sys.argv[1:] = words
main()
"""


def start(step: str, models: Path) -> Serving:
    """The server that a row's command starts."""
    program, *flags = shlex.split(theirs(step).replace("/models/", f"{models}/"))
    assert program == "tensorflow_model_server"
    return Serving(*flags, command=[sys.executable, "-c", START])


def wait_for(server: Serving, name: str) -> None:
    """Its ports open when all models are there."""
    wait_until(lambda: server.get(f"/v1/models/{name}")[0] == 200, server.log)


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Serving]:
    running = start("several models, batching, metrics", models)
    wait_for(running, "versioned")
    yield running
    assert running.stop() == 0


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def theirs(step: str) -> str:
    assert ROWS[step][1].startswith("same")
    return codes(ROWS[step][0])[0]


def run(command: str, server: Serving | None, models: Path) -> str:
    if shutil.which(shlex.split(command)[0]) is None and not command.startswith("pyserving"):
        pytest.skip(f"needs {shlex.split(command)[0]}")
    here = command.replace("/models/", f"{models}/") if server is None or "http" not in command else command
    if server is not None:
        here = here.replace(":8501", f":{server.rest}").replace(":8500", f":{server.grpc}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(here, shell=True, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


Check = Callable[[str], None]


def answers(expected: object) -> Check:
    def check(printed: str) -> None:
        assert json.loads(printed) == expected

    return check


def has(*words: str) -> Check:
    def check(printed: str) -> None:
        assert [word for word in words if word not in printed] == []

    return check


CURL: dict[str, Check] = {
    "predict": answers({"predictions": [2.5, 3.0, 4.5]}),
    "predict by columns": answers({"outputs": [2.5]}),
    "classify": has('"results"', '["rose",', '["tulip",', '["iris",'),
    "regress": has('{"results":['),
    "bytes": has('"upper":"HELLO"'),
    "status": has('"version"', '"AVAILABLE"'),
    "metadata": has('"signature_def"', '"serving_default"'),
    "version policy": answers({"predictions": [{"version": 1, "y": 11.0}]}),
    "label": answers({"predictions": [{"version": 2, "y": 21.0}]}),
    "monitoring": has("# TYPE :tensorflow:serving:request_count counter"),
}


@pytest.mark.parametrize("step", CURL)
def test_curl(step: str, server: Serving, models: Path) -> None:
    command = theirs(step)
    assert command.startswith("curl ")
    CURL[step](run(command, server, models))


def test_server(models: Path) -> None:
    server = start("server", models)
    wait_for(server, "half_plus_two")
    assert server.post_json("/v1/models/half_plus_two:predict", {"instances": [1.0]}) == (200, {"predictions": [2.5]})
    assert server.stop() == 0


def test_new_config(server: Serving, models: Path) -> None:
    run(codes(ROWS["new config"][1])[0], server, models)
    assert server.get("/v1/models/flowers")[0] == 200


def test_look_at_it(models: Path) -> None:
    printed = run(codes(ROWS["look at it"][1])[0], None, models)
    has("serving_default", "x", "y", "float32")(printed)


def test_run_it(models: Path) -> None:
    has("2.5", "3.0", "4.5")(run(codes(ROWS["run it"][1])[0], None, models))


def test_docker() -> None:
    """The image's steps and its entry point are run by tests/distribution/test_container.py."""
    assert (ROOT / "tests/distribution/test_container.py").exists()
    variables = re.findall(r"-e (\w+)=", codes(ROWS["Docker"][0])[0])
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert [name for name in variables if f"{name}=" not in dockerfile] == []


def test_install() -> None:
    """What pip gets by those words is what pyproject.toml has; the wheel is tested by tests/distribution."""
    (wanted,) = re.findall(r"pip install 'pyserving\[(\w+)\]'", ROWS["install"][1])
    assert f"\n{wanted} = [" in (ROOT / "pyproject.toml").read_text()


EXAMPLES = {
    step: found[1] for step, cells in ROWS.items() if (found := re.search(r"\]\(\.\./(examples/.*?)\)", cells[1]))
}


@pytest.mark.parametrize("step", EXAMPLES)
def test_examples(step: str) -> None:
    """tests/examples runs the README's commands; here, that it has the commands of the row."""
    readme = (ROOT / EXAMPLES[step]).read_text(encoding="utf-8")
    commands = [code for code in codes(ROWS[step][1]) if code.startswith("python ")]
    assert [command for command in commands if f"\n{command}\n" not in readme] == []


def test_every_row_is_tested() -> None:
    by_name = {name.removeprefix("test_").replace("_", " ").lower() for name in globals() if name.startswith("test_")}
    tested = {*CURL, *EXAMPLES, "several models, batching, metrics"}
    assert [step for step in ROWS if step not in tested and step.lower() not in by_name] == []
    assert set(CURL) <= set(ROWS)
