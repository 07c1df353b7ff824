"""examples/: the commands in each README are run as they stand there, but for ports, and print what they should.

What exports models has been run by the fixture ``built_examples``. All but one of the examples share a server.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Serving, free_port

ROOT = Path(__file__).resolve().parents[2]
STORE = "s3"
"""Has a test of its own: it needs the group stores."""
EXAMPLES = sorted({path.parent.name for path in (ROOT / "examples").glob("*/README.md")} - {STORE})
OWN_SERVER = "many_models"


def commands(name: str) -> list[str]:
    readme = (ROOT / "examples" / name / "README.md").read_text(encoding="utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]


def before_serving(name: str) -> list[str]:
    listed = commands(name)
    return [line for line in listed[: serving(name)] if not line.startswith("python export.py")]


def serving(name: str) -> int:
    """Which of the commands starts the server."""
    (position,) = (i for i, line in enumerate(commands(name)) if line.startswith("pyserving serve"))
    return position


def environment() -> dict[str, str]:
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }


def run(command: str, folder: Path) -> str:
    program = shlex.split(command)[0]
    if program not in ("python", "pyserving") and shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def examples(built_examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the examples, where all is done that comes before the server."""
    folder = tmp_path_factory.mktemp("copy") / "examples"
    shutil.copytree(built_examples, folder)
    for name in EXAMPLES:
        for line in before_serving(name):
            run(line, folder / name)
    return folder


@pytest.fixture(scope="module")
def shared(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Serves the models of all examples but one, with the options of all."""
    models = tmp_path_factory.mktemp("models")
    options = set()
    for name in EXAMPLES:
        if name != OWN_SERVER:
            first, *more = shlex.split(commands(name)[serving(name)])[2:]
            assert first == "models"
            options.add(tuple(more))
            for model in (examples / name / "models").iterdir():
                (models / model.name).symlink_to(model)
    given = [word for some in options for word in some]
    server = Serving(str(models), *given, env={"PYTHONPATH": str(ROOT)}).wait_until_ready()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def own(examples: Path) -> Iterator[Serving]:
    words = shlex.split(commands(OWN_SERVER)[serving(OWN_SERVER)])[2:]
    given = [str(examples / OWN_SERVER / word) if word.endswith(".config") else word for word in words]
    server = Serving(*given, env={"PYTHONPATH": str(ROOT)}).wait_until_ready()
    yield server
    assert server.stop() == 0


def outputs(name: str, examples: Path, server: Serving) -> list[str]:
    """What the commands that come after the server print."""
    web = free_port()
    background: list[subprocess.Popen[bytes]] = []
    printed = []
    try:
        for line in commands(name)[serving(name) + 1 :]:
            here = re.sub(r"\b8000\b", str(web), line.replace(":8501", f":{server.rest}"))
            here = here.replace(":8500", f":{server.grpc}")
            if line.startswith("python web.py"):
                words = [sys.executable, *here.split()[1:]]
                background.append(subprocess.Popen(words, cwd=examples / name, env=environment()))
                wait_for_page(web, background[0])
            else:
                printed.append(run(here, examples / name))
    finally:
        for process in background:
            process.kill()
            process.wait()
    return printed


def wait_for_page(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/", timeout=10) as answer:
                assert b"<input type=" in answer.read()
                return
        except urllib.error.URLError:
            time.sleep(0.05)
    raise AssertionError("no page")


def error_rates(printed: list[str]) -> list[float]:
    return [float(re.fullmatch(r"Inference error rate: ([\d.]+)%\n", text)[1]) for text in printed]  # type: ignore[index]


def test_half_plus_two(examples: Path, shared: Serving) -> None:
    assert outputs("half_plus_two", examples, shared) == ['{"predictions":[2.5,3.0,4.5]}', *["[2.5 3.  4.5]\n"] * 2]


def test_mnist(examples: Path, shared: Serving) -> None:
    pytest.importorskip("requests")
    if not (Path(sys.executable).parent / "saved_model_cli").exists():
        pytest.skip("needs TensorFlow")
    rates = error_rates(outputs("mnist", examples, shared))
    assert len(rates) == 4
    assert len(set(rates)) == 1
    assert 0 < rates[0] < 15


def test_keras_signatures(examples: Path, shared: Serving) -> None:
    shown, by_curl, by_client = outputs("keras_signatures", examples, shared)
    assert "call" in shown
    assert re.search(r'"species":\s*0', by_curl)
    assert re.fullmatch(r"flowers +\[0 1 2\]\nflowers_call \[0 1 2\]\n", by_client)


def test_spam(examples: Path, shared: Serving) -> None:
    predicted, classified, by_client = outputs("spam", examples, shared)
    assert re.findall(r'"label":\s*"(\w+)"', predicted) == ["spam", "ham"]
    ham, spam = (float(re.search(rf'\["{name}",([\d.e-]+)\]', classified)[1]) for name in ("ham", "spam"))  # type: ignore[index]
    assert spam > 0.5 > ham
    assert spam + ham == pytest.approx(1, abs=1e-3)
    share, first, second = re.fullmatch(  # type: ignore[union-attr]
        r"(\d+)% of 200 messages are told rightly\n(\w+)\n(\w+)\n", by_client
    ).groups()
    assert int(share) >= 90
    assert {first, second} <= {"spam", "ham"}


def test_chinese_news(examples: Path, shared: Serving) -> None:
    by_client, by_curl = outputs("chinese_news", examples, shared)
    assert int(re.fullmatch(r"(\d+)% right, 100% the same from both\n", by_client)[1]) >= 90  # type: ignore[index]
    assert re.findall(r'"topic":\s*"(\w+)"', by_curl) == ["体育", "财经"]


def test_image_web_app(examples: Path, shared: Serving) -> None:
    by_page, deployed = outputs("image_web_app", examples, shared)
    assert '"label": "triangle"' in by_page
    assert deployed == "wrote version 2\nversion 2 serves\n"


def test_the_modules_of_the_web_app_do_not_know_each_other() -> None:
    folder = ROOT / "examples/image_web_app"
    for module, foreign in {"web": "export|deploy|tensorflow|keras", "deploy": "export|web|tensorflow|keras"}.items():
        text = (folder / f"{module}.py").read_text()
        assert not re.search(rf"^(import|from) ({foreign})\b", text, re.MULTILINE)


def test_many_models(examples: Path, own: Serving) -> None:
    by_client, canary, first, _, _, status = outputs(OWN_SERVER, examples, own)
    lines = dict(re.findall(r"^(\w+(?: \d)?) +\[ *([\d.]+)\]$", by_client, re.MULTILINE))
    assert lines == {"square": "9.", "version 1": "102.", "stable": "102.", "canary": "202."}
    share = int(re.search(r"^(\d+)% of 400 users get the canary, each always the same$", by_client, re.MULTILINE)[1])  # type: ignore[index]
    assert 15 <= share <= 35
    assert (canary, first) == ('{"predictions":[202.0]}', '{"predictions":[102.0]}')
    assert re.findall(r"(\d) +AVAILABLE", status) == ["3", "2", "1"]


def test_retraining(examples: Path, shared: Serving) -> None:
    (printed,) = outputs("retraining", examples, shared)
    errors = [float(text) for text in re.findall(r"^version \d: mean error ([\d.]+)$", printed, re.MULTILINE)]
    assert len(errors) == 3
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]
    assert re.search(r"^0 of \d+ requests failed, answered by versions \[1, 2, 3, 4\]$", printed, re.MULTILINE), printed


def test_warmup(examples: Path, shared: Serving) -> None:
    answer, metrics = outputs("warmup", examples, shared)
    assert answer == '{"predictions":[2.5,3.0,4.5]}'
    (count,) = re.findall(r"model_warmup_latency_count\{[^}]*warm/1[^}]*\} (\d+)", metrics)
    assert int(count) == 1


def test_each_example_has_a_test_and_a_line_in_the_list() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert set(EXAMPLES) <= tests
    listed = (ROOT / "examples/README.md").read_text()
    assert [name for name in EXAMPLES if f"[{name}]({name}/README.md)" not in listed] == []


@pytest.mark.stores
def test_s3(built_examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("moto", "s3fs"):
        pytest.importorskip(package)
    folder = tmp_path / "examples"
    shutil.copytree(built_examples, folder)
    port = free_port()
    moto, export, _, first, serve, predict, second, status = commands(STORE)
    for pair in export.split()[1:]:
        name, value = pair.split("=")
        monkeypatch.setenv(name, value.replace("5000", str(port)))
    emulator = subprocess.Popen(
        [Path(sys.executable).parent / "moto_server", *shlex.split(moto.replace("5000", str(port)))[1:]],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = None
    here = folder / STORE
    (here / "models").symlink_to(folder / "half_plus_two" / "models")
    try:
        wait_until_it_listens(port)
        assert run(first, here) == "wrote s3://models/half_plus_two/1\n"
        words = shlex.split(serve)[2:]
        cache = f"--model-cache={tmp_path / 'cache'}"
        server = Serving(*words, cache, env={"PYTHONPATH": str(ROOT)}).wait_until_ready()
        assert run(predict.replace(":8501", f":{server.rest}"), here) == '{"predictions":[2.5,3.0,4.5]}'
        run(second, here)
        end = time.monotonic() + 60
        while '"version":"2","state":"AVAILABLE"' not in (
            told := run(status.replace(":8501", f":{server.rest}"), here)
        ):
            assert time.monotonic() < end, told
            time.sleep(0.2)
    finally:
        if server is not None:
            server.stop()
        emulator.kill()
        emulator.wait()


def wait_until_it_listens(port: int) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
