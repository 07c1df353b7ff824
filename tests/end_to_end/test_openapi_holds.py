"""schemathesis asks a server what its OpenAPI document says can be asked, and much that it says cannot be.

Left out are the checks whether all is refused that the document forbids, and all accepted that it allows: a JSON Schema
cannot say that ``1.0`` is no integer, or that a text has to be a tf.Example; and where TensorFlow takes more shapes
than a signature names, so does this server, as the original. Methods that are not served get 400 and 501, as there,
and not 405.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Serving

pytest.importorskip("schemathesis", reason="needs schemathesis")

CONFIG = """
[checks]
unsupported_method.enabled = false
negative_data_rejection.enabled = false
positive_data_acceptance.enabled = false

[phases.coverage]
unexpected-methods = ["PUT", "PATCH", "DELETE", "OPTIONS"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("half_plus_two", "vocabulary"):
        (folder / name).symlink_to(models_folder / name)
    (folder / "table" / "1").mkdir(parents=True)
    (folder / "table" / "1" / "table.csv").write_text("key,value,text\n1,1.5,a\n2,2.5,b\n")
    running = Serving(str(folder), "--accelerate=off").wait_until_ready()
    yield running
    assert running.stop() == 0, running.log()
    assert "Traceback" not in running.log()


def ask(server: Serving, folder: Path, *options: str) -> None:
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, f"--config-file={config}", "run", "--seed=1", "--request-timeout=120", *options]
    url = f"http://127.0.0.1:{server.rest}/openapi.json"
    done = subprocess.run([*command, url], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


def test_the_document_holds(server: Serving, tmp_path: Path) -> None:
    ask(server, tmp_path, "--phases=examples,coverage", "--include-path-regex=^(/v1/models/half_plus_two|/[a-uw-z])")


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_document_holds_for_many_inputs(server: Serving, tmp_path: Path, mode: str) -> None:
    # Models that are unloaded are not ready, and that is no server error.
    options = ["--phases=fuzzing", "--max-examples=200", "--continue-on-failure", "--exclude-path-regex=/unload$"]
    options.append(f"--mode={mode}")
    if mode == "negative":  # an input of another shape has an answer of another shape
        options.append("--exclude-checks=response_schema_conformance")
    ask(server, tmp_path, *options)
