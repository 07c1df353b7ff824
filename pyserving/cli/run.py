"""``pyserving run``: computes a signature of a model on this machine, without a server."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import numpy as np
import orjson

from pyserving.cli.completion_of_names import complete_signatures
from pyserving.cli.ending import ending
from pyserving.cli.image_options import image_options, read_image_options
from pyserving.cli.inputs import read_inputs
from pyserving.cli.local_options import op_library_option, python_models_option, tags_option
from pyserving.cli.number import LONGEST, Number
from pyserving.cli.outputs import NPY, TABLE, as_pieces, output_option, write_files
from pyserving.cli.terminal import errors_to
from pyserving.cli.version_folder import find_version
from pyserving.core.errors import invalid_argument
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.platforms.tensorflow.op_library import load_op_libraries
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.server.local_version import LocalVersion, load_here
from pyserving.wire.json_examples import parse_examples


@click.command()
@click.argument("path", metavar="PATH", type=click.Path())
@click.option(
    "--signature", default="serving_default", show_default=True, shell_complete=complete_signatures, help="To compute."
)
@click.option(
    "-i",
    "--inputs",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="JSON, a file (.npy, .npz[KEY], .json, a picture, @FILE), or such as 'x=np.ones((1,3))'; once per input.",
)
@click.option(
    "--input-examples",
    "examples",
    multiple=True,
    metavar="NAME=JSON",
    help="tf.Examples for an input of strings, such as 'inputs=[{\"x\": [1.0]}]'.",
)
@image_options
@click.option(
    "--output-name", "output_names", multiple=True, help="Compute this output only; may be given several times."
)
@output_option
@click.option("--warmup", type=click.IntRange(min=0), default=0, help="Runs before those that are timed.")
@click.option("--repeat", type=click.IntRange(min=0), default=0, help="Time so many further runs.")
@click.option("--timeout", type=Number(0, LONGEST, min_open=True), help="Seconds that a run may take.")
@python_models_option(PythonModels.ON)
@op_library_option
@tags_option
def run(
    path: str,
    signature: str,
    texts: tuple[str, ...],
    examples: tuple[str, ...],
    image_size: str | None,
    image_scale: str | None,
    image_gray: bool | None,
    output_names: tuple[str, ...],
    output: str,
    outdir: str | None,
    overwrite: bool,
    warmup: int,
    repeat: int,
    timeout: float | None,
    python_models: str,
    op_libraries: tuple[str, ...],
    tags: str,
) -> None:
    """Runs a signature of the model at PATH on inputs from the command line.

    PATH is a version folder, a folder of versions (the latest is run), or a model file.
    """
    images = read_image_options(image_size, image_scale, image_gray)
    context = PlatformContext(
        session_options=SessionOptions(tags=tuple(tag for tag in tags.split(",") if tag)),
        python_options=PythonOptions(PythonModels(python_models)),
    )
    console = errors_to()
    with ending(f"cannot run {path}"):
        load_op_libraries(op_libraries)
        with find_version(path) as folder:
            with console.status("loading ..."):
                version = load_here(folder.path, ServableId(folder.name, folder.version), context)
            with version:
                found = version.model.signatures.get(signature)
                if found is None:
                    there = ", ".join(sorted(version.model.signatures))
                    raise invalid_argument(f"no signature {signature}: there are {there or 'none'}")
                inputs = read_inputs(texts, found.inputs, images)
                for text in examples:
                    name, array = _read_examples(text)
                    inputs[name] = array
                unknown = sorted(inputs.keys() - found.inputs.keys())
                if unknown:
                    wanted = ", ".join(found.inputs) or "none"
                    raise invalid_argument(
                        f"signature {signature} has no input {', '.join(unknown)}: there are {wanted}"
                    )
                with console.status("running ..."):
                    pieces = version.predict(signature, inputs, output_names, timeout)
                    seconds = _time(version, (signature, inputs, output_names, timeout), warmup, repeat)
        if outdir is not None:
            for path in write_files(pieces[0] if pieces else {}, outdir, overwrite=overwrite):
                console.print(f"wrote {path}", markup=False, soft_wrap=True)
        if outdir is None or output != NPY:
            as_pieces(pieces, output)
    if seconds:
        _print_times(seconds, to_stderr=output != TABLE)


def _read_examples(text: str) -> tuple[str, Array]:
    """The input's name and serialized tf.Examples, [n] of bytes. Raises INVALID_ARGUMENT."""
    name, equals, value = text.partition("=")
    if not equals:
        raise invalid_argument(f"expected NAME=JSON, got {text!r}")
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise invalid_argument(f"input {name}: the examples are no JSON: {error}") from None
    listed = parse_examples(orjson.dumps({"examples": parsed})).examples
    array = np.empty(len(listed), object)
    array[:] = listed
    return name, array


def _time(version: LocalVersion, arguments: tuple[Any, ...], warmup: int, repeat: int) -> list[float]:
    """Seconds of each of ``repeat`` runs."""
    for _ in range(warmup):
        version.predict(*arguments)
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        version.predict(*arguments)
        seconds.append(time.perf_counter() - start)
    return seconds


def _print_times(seconds: Sequence[float], *, to_stderr: bool) -> None:
    median, p90, most = np.percentile(np.asarray(seconds) * 1e3, (50, 90, 100))
    text = f"{len(seconds)} runs: median {median:.3g} ms, 90 % up to {p90:.3g} ms, slowest {most:.3g} ms"
    print(text, file=sys.stderr if to_stderr else sys.stdout)
