"""The main job from end to end: train, export, serve, ask, and swap in a better version under load.

python demo.py                the whole of it, about a minute
python demo.py --models-only  only makes the models that `make serve` serves
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from rich.console import Console

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "demo-models"

console = Console(highlight=False)


def step(text: str, command: str = "") -> None:
    console.print(f"\n[bold]{text}[/]")
    if command:
        console.print(f"  [dim]$ {command}[/]", soft_wrap=True)


def train(*arguments: str) -> None:
    """Runs train.py, which needs TensorFlow, in a process of its own."""
    started = time.monotonic()
    with console.status("training and exporting"):
        done = subprocess.run(
            [sys.executable, HERE / "train.py", *arguments], capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    where = Path(done.stdout.split()[-1]).relative_to(MODELS.parent)
    console.print(f"  wrote {where} in {time.monotonic() - started:.0f} s")


def make_models() -> None:
    shutil.rmtree(MODELS, ignore_errors=True)
    step("Export half_plus_two, and train a small CNN on handwritten digits for one epoch")
    train("half_plus_two", str(MODELS))
    train("digits", str(MODELS), "1", "1")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def start_server(rest: int, grpc: int) -> "subprocess.Popen[bytes]":
    step("Start the server", f"pyserving serve demo-models --rest-port {rest} --port {grpc}")
    started = time.monotonic()
    log = (MODELS / "server.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "pyserving.cli.main", "serve", str(MODELS), f"--rest-port={rest}", f"--port={grpc}"],
        stderr=log,
    )
    while True:
        try:
            if requests.get(f"http://localhost:{rest}/readyz", timeout=5).ok:
                break
        except requests.ConnectionError:
            pass
        if server.poll() is not None or time.monotonic() > started + 60:
            sys.exit(f"the server did not become ready:\n{(MODELS / 'server.log').read_text()}")
        time.sleep(0.02)
    console.print(f"  ready after {time.monotonic() - started:.1f} s")
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-only", action="store_true", help="make demo-models/, if it is not there yet")
    if parser.parse_args().models_only:
        if not (MODELS / "digits").exists():
            make_models()
        return
    started = time.monotonic()
    make_models()
    rest, grpc = free_port(), free_port()
    server = start_server(rest, grpc)
    try:
        show(rest, grpc)
    finally:
        step("Stop the server", f"kill -TERM {server.pid}")
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    console.print(f"  exit code {code}")
    if code:
        sys.exit("the server did not end well")
    console.print(
        f"\n[bold green]All done in {time.monotonic() - started:.0f} s.[/] `make serve` leaves a server running."
    )


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Sends what this process writes to standard error nowhere, from C++ too."""
    original, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(nowhere)


def show(rest: int, grpc: int) -> None:
    with quiet_stderr():  # the stubs import TensorFlow, which greets on standard error whatever it is told
        from clients import GrpcClient, RestClient, error_rate
        from digits import load_digits
        from traffic import Traffic

    _, test = load_digits()
    rest_client, grpc_client = RestClient(rest), GrpcClient(grpc)

    body = """'{"instances": [1.0, 2.0, 5.0]}'"""
    step("Ask half_plus_two", f"curl -d {body} http://localhost:{rest}/v1/models/half_plus_two:predict")
    for protocol, client in (("REST", rest_client), ("gRPC", grpc_client)):
        answer = client.half_plus_two([1.0, 2.0, 5.0])
        console.print(f"  {protocol}  {answer}")
        if answer != [2.5, 3.0, 4.5]:
            sys.exit("expected [2.5, 3.0, 4.5]")

    step(f"Ask version 1 for {len(test.labels)} digits that it has not seen")
    before = error_rate(grpc_client, test)
    console.print(f"  gRPC  Inference error rate: {before:.1%}")
    console.print(f"  REST  Inference error rate: {error_rate(rest_client, test):.1%}")

    step("Train more, and drop version 2 into the folder while four clients go on asking")
    with Traffic(rest, grpc, test.images) as traffic:
        train("digits", str(MODELS), "2", "8")
        traffic.wait_for(2, timeout=60)
        time.sleep(2)  # of traffic on version 2 alone
    there = (MODELS / "digits").stat().st_mtime  # the last change in that folder: the export's rename
    console.print(f"  version 2 answered {traffic.first_of[2] - there:.1f} s after its folder was there")
    for version, count in sorted(traffic.versions.items()):
        console.print(f"  version {version}: {count} gRPC answers")
    console.print(f"  {sum(traffic.answers.values())} answers in all, [bold]{len(traffic.failures)} failed[/]")
    if traffic.failures:
        sys.exit("\n".join(traffic.failures[:5]))

    step("Ask version 2 for the same digits")
    after = error_rate(grpc_client, test)
    console.print(f"  gRPC  Inference error rate: {after:.1%}")
    if after >= before:
        sys.exit("version 2 was expected to be better")


if __name__ == "__main__":
    main()
