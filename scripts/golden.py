#!/usr/bin/env python3
"""Replays recorded answers of TensorFlow Serving against tensorflow_model_server, and checks docs/deviations.md.

    python scripts/golden.py          (or: make golden)

The folder with the recorded cases and their checker is ../shared/golden, or what GOLDEN says. A case may fail if
docs/deviations.md lists it, and must fail then.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_DEVIATIONS = 15
SERVER = [sys.executable, "-m", "pyserving.cli.model_server"]

CONFIG_FOR_RELOAD = """model_config_list {{
  config {{ name: "b" base_path: "{models}/half_plus_two_tf2" model_platform: "tensorflow" }}
}}
"""


def golden_folder() -> Path:
    return Path(os.environ.get("GOLDEN", ROOT.parent / "shared" / "golden")).resolve()


def listed_deviations() -> set[str]:
    """The case ids in the first column of the table in docs/deviations.md."""
    text = (ROOT / "docs" / "deviations.md").read_text()
    return set(re.findall(r"^\| `([\w./-]+)` \|", text, re.MULTILINE))


def build_models(golden: Path, folder: Path) -> Path:
    """Builds the models of the cases, unless they are there and no older than what builds them."""
    builder, stamp = golden / "make_models.py", folder / ".built"
    if not stamp.exists() or stamp.stat().st_mtime < builder.stat().st_mtime:
        print("== building the models of the recorded cases", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        subprocess.run([sys.executable, builder, folder], check=True, capture_output=True)
        stamp.touch()
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(flags: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A server with its REST and gRPC ports, ready; stopped at the end. Raises RuntimeError where it does not start."""
    rest, grpc = free_port(), free_port()
    process = subprocess.Popen(
        [*SERVER, f"--port={grpc}", f"--rest_api_port={rest}", *flags], stderr=subprocess.DEVNULL, cwd=ROOT
    )
    try:
        end = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", rest), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"tensorflow_model_server {shlex.join(flags)} did not start") from None
                time.sleep(0.05)
        for name in _model_names(flags):
            _wait_until_settled(f"http://127.0.0.1:{rest}/v1/models/{urllib.parse.quote(name, safe='')}", end)
        yield rest, grpc
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _model_names(flags: Sequence[str]) -> list[str]:
    """Of the models in the config file that the flags name."""
    files = [flag.partition("=")[2] for flag in flags if flag.startswith("--model_config_file=")]
    return re.findall(r"""\bname:\s*["']([^"']+)""", "".join(Path(file).read_text() for file in files))


def _wait_until_settled(url: str, end: float) -> None:
    """The ports open when each model has a version; the cases were recorded when all versions were there."""
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                states = {version["state"] for version in json.load(answer)["model_version_status"]}
        except urllib.error.HTTPError:  # a model without versions
            return
        if states.isdisjoint({"START", "LOADING"}):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{url} still loads")


def check(golden: Path, arguments: Sequence[str]) -> tuple[int, set[str]]:
    """Runs the checker: how many cases passed, and the ids of those that failed."""
    done = subprocess.run(
        [sys.executable, golden / "check_golden.py", golden / "cases.jsonl", *arguments, "-v"],
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1:] or [""]
    counts = re.fullmatch(r"(\d+) passed, (\d+) failed", last[0])
    if counts is None:
        raise RuntimeError(f"the checker failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    failed = set(re.findall(r"^FAIL\s+(\S+)$", done.stdout, re.MULTILINE))
    print(done.stdout[done.stdout.index("\n\nFAIL") :] if "\n\nFAIL" in done.stdout else "", end="")
    return int(counts[1]), failed


def replay(golden: Path, scratch: Path) -> tuple[int, set[str]]:
    """All recorded cases against servers of each kind: how many passed, and the ids of those that failed."""
    models = build_models(golden, scratch)
    main = [
        "--file_system_poll_wait_seconds=1",
        f"--model_config_file={models / 'models.config'}",
        "--allow_version_labels_for_unavailable_models=true",
    ]
    extra = [
        "--rest_api_enable_cors_support=true",
        "--enable_grpc_healthcheck_service=true",
        f"--monitoring_config_file={models / 'monitoring.config'}",
    ]
    reload_config = scratch / "reload.config"
    reload_config.write_text(CONFIG_FOR_RELOAD.format(models=models))
    kinds = {
        "main": main,
        "extra": [*main, *extra],
        "tensor_content": [*main, "--enable_serialization_as_tensor_content=true"],
        "reload": [f"--model_config_file={reload_config}", "--max_num_load_retries=0"],
    }
    passed, failed = 0, set[str]()
    for kind, flags in kinds.items():
        with running(flags) as (rest, grpc):
            addresses = [f"--rest=127.0.0.1:{rest}", f"--grpc=127.0.0.1:{grpc}"]
            count, ids = check(golden, [*addresses, "--server", kind, "--models", str(models)])
        print(f"== {kind}: {count} passed, {len(ids)} failed", flush=True)
        passed, failed = passed + count, failed | ids
    command = shlex.join(SERVER)
    count, ids = check(golden, ["--server", "startup", "--startup-command", command, "--models", str(models)])
    print(f"== startup: {count} passed, {len(ids)} failed", flush=True)
    return passed + count, failed | ids


def verdict(failed: set[str]) -> list[str]:
    """What is wrong, in words; nothing if exactly the listed deviations failed."""
    listed = listed_deviations()
    wrong = [f"{case} differs from the original and is not listed" for case in sorted(failed - listed)]
    wrong += [f"{case} is listed as a deviation, but does not differ" for case in sorted(listed - failed)]
    if len(listed) > MOST_DEVIATIONS:
        wrong.append(f"{len(listed)} deviations are listed; {MOST_DEVIATIONS} are the most")
    return wrong


def main() -> int:
    golden = golden_folder()
    if not (golden / "cases.jsonl").exists():
        print(f"skipped: no recorded cases in {golden} (say where with GOLDEN=folder)")
        return 0
    passed, failed = replay(golden, ROOT / ".cache" / "golden-models")
    wrong = verdict(failed)
    for text in wrong:
        print(text)
    print(f"{passed} passed, {len(failed)} failed, {len(failed) - len(wrong)} of them as docs/deviations.md says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
