"""``pyserving warmup``: makes the file of requests that servers replay before a version is available."""

import json
import os
from collections.abc import Sequence
from typing import Any

import click
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from pyserving.cli.ending import ending
from pyserving.cli.local_options import op_library_option, python_models_option, tags_option
from pyserving.cli.request_samples import describe_sample, make_requests, read_requests, signature_of, write_warmup
from pyserving.cli.terminal import errors_to, results_to
from pyserving.cli.version_folder import find_version
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.servable import ServableId
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.platforms.tensorflow.op_library import load_op_libraries
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.server.local_version import LocalVersion, load_here
from pyserving.server.warmup import FILE, MAX_RECORDS
from pyserving.validation.samples import Sample, read_samples


@click.command()
@click.argument("path", metavar="PATH", type=click.Path())
@click.option(
    "--from",
    "source",
    default="1",
    show_default=True,
    metavar="FILE|N",
    help="JSON lines of REST requests, a request log (TFRecord), or how many requests to make up for each signature.",
)
@click.option("--show", "only_show", is_flag=True, help="Only print what the version's file holds.")
@python_models_option(PythonModels.ON)
@op_library_option
@tags_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
def warmup(
    path: str,
    source: str,
    only_show: bool,
    python_models: str,
    op_libraries: tuple[str, ...],
    tags: str,
    as_json: bool,
) -> None:
    """Writes assets.extra/tf_serving_warmup_requests into the version at PATH.

    Each request is tried; one from a file that the model does not answer is an error, one that was made up is left out.
    """
    context = PlatformContext(
        session_options=SessionOptions(tags=tuple(tag for tag in tags.split(",") if tag)),
        python_options=PythonOptions(PythonModels(python_models)),
    )
    with ending(f"cannot warm up {path}"), find_version(path) as folder:
        if os.path.isfile(folder.given) and folder.path != os.path.dirname(folder.given):
            raise invalid_argument("it is a single file; a warmup file lies in a version folder")
        file = os.path.join(folder.path, FILE)
        if only_show:
            if not os.path.exists(file):
                raise ServingError(Code.NOT_FOUND, f"there is no {file}")
            samples = list(read_samples(file, "warmup"))
        else:
            load_op_libraries(op_libraries)
            servable = ServableId(folder.name, folder.version)
            with load_here(folder.path, servable, context) as version:
                samples, left_out = tried(version, servable, source)
            for text in left_out:
                errors_to().print(f"left out: {escape(text)}", soft_wrap=True)
            if not samples:
                raise invalid_argument("there is no request to warm up with")
            write_warmup(file, samples)
        _print(file, samples, as_json=as_json)


def tried(version: LocalVersion, servable: ServableId, source: str) -> tuple[list[Sample], list[str]]:
    """The requests that ``source`` (a number, or a file) means and that the model answers; and why some are left out.

    Raises ServingError for a request from a file that is not answered.
    """
    made_up = source.isdecimal()
    if made_up:
        if int(source) > MAX_RECORDS:
            raise invalid_argument(f"{source} requests for each signature; a warmup file may hold {MAX_RECORDS}")
        found = list(make_requests(version.model, servable, int(source)))
    else:
        found = read_requests(source, version.model, servable)
    if len(found) > MAX_RECORDS:
        raise invalid_argument(f"{len(found)} requests, of which a warmup file may hold {MAX_RECORDS}")
    answered, left_out = [], []
    console = errors_to()
    for sample in track(found, "trying requests", console=console, transient=True, disable=not console.is_terminal):
        try:
            version.answer(sample.method, sample.request)
        except ServingError as error:
            text = f"request {sample.number} to signature {signature_of(sample)} failed: {error.message}"
            if not made_up:
                raise ServingError(error.code, f"{source}: {text}") from None
            left_out.append(text)
        else:
            answered.append(sample)
    return answered, left_out


def _print(file: str, samples: Sequence[Sample], *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "record": sample.number,
            "method": sample.method.rpc,
            "signature": signature_of(sample),
            "inputs": describe_sample(sample),
        }
        for sample in samples
    ]
    if as_json:
        click.echo(json.dumps({"file": file, "records": rows}, indent=1))
        return
    console = results_to()
    size = decimal(os.path.getsize(file))
    console.print(f"[bold]{escape(file)}[/]  {len(rows)} requests, {size}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("record", "method", "signature", "inputs"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    console.print(table)
