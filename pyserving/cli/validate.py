"""``pyserving validate``: loads a version in a process of its own, asks it, and blesses or refuses it.

What TFX's InfraValidator does: the verdict is an empty file INFRA_BLESSED or INFRA_NOT_BLESSED.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from rich.markup import escape
from rich.progress import track

from pyserving.cli.ending import Exit, ending
from pyserving.cli.local_options import op_library_option, python_models_option, tags_option
from pyserving.cli.number import LONGEST, Number
from pyserving.cli.request_samples import INITIALISATION, make_requests, read_requests, signature_of
from pyserving.cli.terminal import errors_to, results_to
from pyserving.cli.version_folder import VersionFolder, find_version
from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.exporting.staging import writing_error
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.server.local_version import LocalVersion, load_in_process
from pyserving.server.warmup import FILE
from pyserving.validation.comparison import differences
from pyserving.validation.report import Tally
from pyserving.validation.samples import Sample, parse_answer, read_samples
from pyserving.validation.tolerance import Bound, Tolerance

BLESSED, NOT_BLESSED = "INFRA_BLESSED", "INFRA_NOT_BLESSED"


@dataclass(slots=True)
class _Verdict:
    path: str
    version: int
    reason: str = ""
    """Why it is refused; empty where it is blessed."""
    load_seconds: float | None = None
    signatures: Sequence[str] = ()
    requests: str = ""
    """Where they came from."""
    tally: Tally = field(default_factory=Tally)


@click.command()
@click.argument("path", metavar="PATH", type=click.Path())
@click.option(
    "--requests",
    metavar="FILE",
    help="Requests to send: JSON lines, or PredictionLogs with the answers that are expected. By default those of the "
    "version's warmup file, else some that are made up.",
)
@click.option(
    "--signature", "wanted", multiple=True, help="A signature that must be there; may be given several times."
)
@click.option("--relative", type=Number(min=0), help="How far answers may be from those expected, per element.")
@click.option("--absolute", type=Number(min=0), help="The same, whatever the element.")
@click.option("--load-timeout", type=Number(0, LONGEST, min_open=True), default=300.0, show_default=True)
@click.option("--request-timeout", type=Number(0, LONGEST, min_open=True), default=30.0, show_default=True)
@click.option("--memory-limit", type=click.IntRange(min=1), help="Bytes that it may take (Linux).")
@click.option(
    "--bless", type=click.Path(file_okay=False), help="Write INFRA_BLESSED or INFRA_NOT_BLESSED into this folder."
)
@python_models_option(PythonModels.ON)
@op_library_option
@tags_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of text.")
def validate(
    path: str,
    requests: str | None,
    wanted: tuple[str, ...],
    relative: float | None,
    absolute: float | None,
    load_timeout: float,
    request_timeout: float,
    memory_limit: int | None,
    bless: str | None,
    python_models: str,
    op_libraries: tuple[str, ...],
    tags: str,
    as_json: bool,
) -> None:
    """Validates the version at PATH: a version folder, or one of versions, such as a TFX Pusher's (the latest counts).

    It is loaded in a process of its own, which may crash, hang or run out of memory without harm; then it is sent
    requests. The exit code is 0 where it is blessed, 1 where it is refused.
    """
    context = PlatformContext(
        session_options=SessionOptions(tags=tuple(tag for tag in tags.split(",") if tag)),
        python_options=PythonOptions(PythonModels(python_models)),
        op_libraries=op_libraries,
    )
    tolerance = Tolerance()
    if relative is not None or absolute is not None:
        tolerance = Tolerance(inexact=Bound(relative or 0.0, absolute or 0.0))
    with ending(f"cannot validate {path}"), find_version(path) as folder:
        if bless is not None:
            _bless(bless, blessed=False)  # until it is known better
        verdict = _Verdict(folder.path, folder.version)
        servable = ServableId(folder.name, folder.version)
        try:
            start = time.monotonic()
            with errors_to().status("loading ..."):
                loaded = load_in_process(
                    folder.path, servable, context, load_time_limit=load_timeout, memory_limit=memory_limit
                )
        except ServingError as error:
            verdict.reason = f"it does not load: {error.message}"
        else:
            verdict.load_seconds = time.monotonic() - start
            with loaded:
                verdict.signatures = [name for name in sorted(loaded.model.signatures) if name != INITIALISATION]
                missing = [name for name in wanted if name not in loaded.model.signatures]
                if missing:
                    there = ", ".join(verdict.signatures) or "none"
                    verdict.reason = f"it has no signature {', '.join(missing)}: there are {there}"
                else:
                    verdict.requests, samples = _samples(requests, folder, loaded, servable)
                    _ask(loaded, samples, tolerance, request_timeout, verdict)
        if bless is not None:
            _bless(bless, blessed=not verdict.reason)
    _print(verdict, as_json=as_json)
    sys.exit(Exit.FAILED if verdict.reason else Exit.OK)


def _samples(
    requests: str | None, folder: VersionFolder, loaded: LocalVersion, servable: ServableId
) -> tuple[str, list[Sample]]:
    """Where they come from, and the requests. Raises ServingError for a file that cannot be read."""
    if requests is not None:
        found = read_requests(requests, loaded.model, servable)
        if not found:
            raise ServingError(Code.INVALID_ARGUMENT, f"{requests} has no requests")
        return requests, found
    file = os.path.join(folder.path, FILE)
    if os.path.exists(file):
        return file, list(read_samples(file, "warmup"))
    return "made up", list(make_requests(loaded.model, servable, 1))


def _ask(
    loaded: LocalVersion, samples: Sequence[Sample], tolerance: Tolerance, timeout: float, verdict: _Verdict
) -> None:
    """Sends all requests, and says in ``verdict`` what came of them."""
    console, tally = errors_to(), verdict.tally
    made_up = verdict.requests == "made up"
    for sample in track(samples, "asking", console=console, transient=True, disable=not console.is_terminal):
        request = f"request {sample.number} ({signature_of(sample)})"
        start = time.perf_counter()
        try:
            answers = loaded.answer(sample.method, sample.request, timeout)
        except ServingError as error:
            # What was made up may be what no client would send: only a model that breaks of it is refused.
            if made_up and error.code in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION):
                tally.unchecked += 1
                continue
            tally.add_failure(request, error.message)
            if error.code is Code.UNAVAILABLE:  # its process is gone
                break
            continue
        tally.seconds.append(time.perf_counter() - start)
        if sample.response:
            tally.add(request, differences(sample.response, parse_answer(sample.method, answers), tolerance))
        else:
            tally.unchecked += 1
    if tally.failed or tally.differed:
        first = tally.examples[0]
        verdict.reason = f"{first.request}: {'; '.join(first.texts)}"


def _bless(folder: str, *, blessed: bool) -> None:
    """The verdict as TFX writes it. Raises what the system says."""
    right, wrong = (BLESSED, NOT_BLESSED) if blessed else (NOT_BLESSED, BLESSED)
    try:
        os.makedirs(folder, exist_ok=True)
        if os.path.exists(os.path.join(folder, wrong)):
            os.remove(os.path.join(folder, wrong))
        with open(os.path.join(folder, right), "wb"):
            pass
    except OSError as error:
        raise writing_error(folder, error) from None


def _print(verdict: _Verdict, *, as_json: bool) -> None:
    tally = verdict.tally
    if as_json:
        shown: dict[str, Any] = {
            "path": verdict.path,
            "version": verdict.version,
            "blessed": not verdict.reason,
            "reason": verdict.reason,
            "load_seconds": verdict.load_seconds,
            "signatures": list(verdict.signatures),
            "requests_from": verdict.requests,
            **tally.to_json(),
        }
        click.echo(json.dumps(shown, indent=1))
        return
    console = results_to()
    word = "[bold red]NOT BLESSED[/]" if verdict.reason else "[bold green]BLESSED[/]"
    console.print(f"{word}  {escape(verdict.path)}", soft_wrap=True)
    if verdict.reason:
        console.print(f"  {escape(verdict.reason)}", soft_wrap=True)
    if verdict.load_seconds is not None:
        console.print(f"  loaded in {verdict.load_seconds:.2g} s", soft_wrap=True)
    if verdict.requests:
        console.print(
            f"  {tally.compared + tally.unchecked} requests ({escape(verdict.requests)}): {tally.agreed} as expected, "
            f"{tally.differed} differ, {tally.failed} failed, {tally.unchecked} with nothing to compare",
            soft_wrap=True,
        )
    for example in tally.examples[1:]:
        console.print(f"  {escape(example.request)}: {escape('; '.join(example.texts))}", soft_wrap=True)
