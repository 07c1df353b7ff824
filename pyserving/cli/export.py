"""``pyserving export``: writes a trained model as a version that servers load, all of it or nothing."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import click
from rich.filesize import decimal
from rich.markup import escape

from pyserving.cli.ending import ending
from pyserving.cli.local_options import op_library_option
from pyserving.cli.request_samples import write_warmup
from pyserving.cli.terminal import errors_to, results_to
from pyserving.cli.version_folder import files_of_version, is_version
from pyserving.cli.warmup import tried
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.servable import ServableId
from pyserving.exporting.job import Job
from pyserving.exporting.model_files import copy_files, copy_folder
from pyserving.exporting.signature_text import InputText, read_input_signature
from pyserving.exporting.staging import StagedVersion, check_free, staged_version, timestamp_version
from pyserving.exporting.worker_process import run_job
from pyserving.platforms.folder_loader import size_of_files
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.platforms.tensorflow.op_library import load_op_libraries
from pyserving.server.local_version import load_here, load_in_process
from pyserving.server.warmup import FILE

_KERAS_FILES = (".keras", ".h5", ".hdf5")
_LOAD_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class _Exported:
    path: str
    signatures: Sequence[str]
    warmup_requests: int
    left_out: Sequence[str]


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("dest", metavar="DEST", type=click.Path(file_okay=False))
@click.option(
    "--version", type=click.IntRange(min=0), help="Number of the version; by default one more than the highest."
)
@click.option("--timestamp", is_flag=True, help="Number it by the time, in seconds since 1970.")
@click.option(
    "--signature",
    "signatures",
    multiple=True,
    metavar="NAME=METHOD",
    help="A further signature, by a method of the object; may be given several times.",
)
@click.option(
    "--input-signature",
    "input_signatures",
    multiple=True,
    metavar="[NAME:]INPUTS",
    help="What a signature takes: 'x=float32[?,28,28];n=int64[?]'; with NAME: of that one, else of serving_default.",
)
@click.option(
    "--custom-object",
    "custom_objects",
    multiple=True,
    metavar="IMPORT-PATH",
    help="A class or function that a file of Keras needs: package.module:Name or file.py:Name.",
)
@click.option("--unsafe", is_flag=True, help="Let a file of Keras bring code of its own (lambda layers).")
@click.option(
    "--warmup",
    default="1",
    show_default=True,
    metavar="FILE|N",
    help="Requests for the warmup file: JSON lines, a request log, or how many to make up per signature; 0: none.",
)
@op_library_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of text.")
def export(
    source: str,
    dest: str,
    version: int | None,
    timestamp: bool,
    signatures: tuple[str, ...],
    input_signatures: tuple[str, ...],
    custom_objects: tuple[str, ...],
    unsafe: bool,
    warmup: str,
    op_libraries: tuple[str, ...],
    as_json: bool,
) -> None:
    """Exports SRC as a new version under DEST, the folder of a model's versions.

    SRC is a file of Keras (.keras, .h5), an object by import path (package.module:object or file.py:object: a Keras
    model, a tf.Module, a tf.function, or a function that makes one), a model file (.onnx, .tflite, .xml, model.py, a
    table), or the folder of a SavedModel.

    The version appears under DEST once it is whole, on the disk, and was loaded and asked; else nothing is left there.
    """
    if timestamp and version is not None:
        raise click.UsageError("give --version or --timestamp, not both")
    with ending(f"cannot export {source}"), _ended_by_signals():
        job = Job(
            _absolute(source),
            "",
            dict(map(_named_method, signatures)),
            _inputs(input_signatures),
            [_absolute(path) for path in custom_objects],
            unsafe,
        )
        done = _export(source, os.path.abspath(dest), job, version, warmup, op_libraries, timestamp=timestamp)
    size = size_of_files(done.path)
    if as_json:
        fields: dict[str, Any] = {
            "path": done.path,
            "version": int(os.path.basename(done.path)),
            "signatures": list(done.signatures),
            "size_bytes": size,
            "warmup_requests": done.warmup_requests,
            "left_out": list(done.left_out),
        }
        click.echo(json.dumps(fields, indent=1))
        return
    for text in done.left_out:
        errors_to().print(f"not in the warmup file: {escape(text)}", soft_wrap=True)
    console = results_to()
    console.print(f"exported [bold]{escape(done.path)}[/]  {decimal(size)}", soft_wrap=True)
    console.print(f"  signatures  {escape(', '.join(done.signatures))}", soft_wrap=True)
    console.print(f"  warmup      {done.warmup_requests} requests")


def _export(
    source: str,
    base_path: str,
    job: Job,
    version: int | None,
    warmup: str,
    op_libraries: Sequence[str],
    *,
    timestamp: bool,
) -> _Exported:
    if os.path.isdir(base_path) and is_version(base_path):
        raise invalid_argument(f"{base_path} is itself a model; expected the folder of a model's versions")
    if version is not None:
        check_free(base_path, version)
    console = errors_to()
    with staged_version(base_path) as staged:
        with console.status("writing ..."):
            _write(source, staged, job)
        with console.status("loading ..."):
            names, count, left_out = _warm(staged.folder, os.path.basename(base_path), warmup, op_libraries)
        if timestamp:
            version = timestamp_version(base_path)
        return _Exported(staged.publish(version), names, count, left_out)


def _write(source: str, staged: StagedVersion, job: Job) -> None:
    is_import_path = ":" in os.path.basename(source)
    if not is_import_path and not os.path.exists(source):
        raise ServingError(Code.NOT_FOUND, "there is no such file or folder")
    if is_import_path or source.lower().endswith(_KERAS_FILES):
        run_job(replace(job, folder=staged.folder), [staged.lock])
        return
    if job.signatures or job.input_signatures or job.custom_objects or job.unsafe:
        raise invalid_argument("it is copied as it is: signatures and custom objects cannot be given")
    if os.path.isdir(source):
        if not is_version(source):
            raise ServingError(Code.NOT_FOUND, "found no model in that folder")
        copy_folder(source, staged.folder)
    else:
        copy_files(files_of_version(source), staged.folder)


def _warm(folder: str, name: str, warmup: str, op_libraries: Sequence[str]) -> tuple[list[str], int, list[str]]:
    """Loads what was written, asks it, and writes its warmup file: names of signatures, requests, those left out."""
    servable = ServableId(name, 1)
    context = PlatformContext(python_options=PythonOptions(PythonModels.ON))
    if op_libraries:
        load_op_libraries(op_libraries)
        loaded = load_here(folder, servable, context)
    else:
        loaded = load_in_process(folder, servable, context, load_time_limit=_LOAD_SECONDS)
    with loaded:
        names = sorted(loaded.model.signatures)
        samples, left_out = tried(loaded, servable, warmup)
    if samples:
        write_warmup(os.path.join(folder, FILE), samples)
    return names, len(samples), left_out


def _absolute(source: str) -> str:
    """Files by their whole paths; ``package.module:object`` as it is."""
    file, colon, found = source.partition(".py:")
    if colon:
        return f"{os.path.abspath(file + '.py')}:{found}"
    return source if ":" in os.path.basename(source) else os.path.abspath(source)


def _named_method(text: str) -> tuple[str, str]:
    name, equals, method = text.partition("=")
    if not (name and equals and method):
        raise invalid_argument(f"{text!r} is no signature: expected NAME=METHOD")
    return name, method


def _inputs(texts: Sequence[str]) -> dict[str, Sequence[InputText]]:
    found: dict[str, Sequence[InputText]] = {}
    for text in texts:
        name, inputs = read_input_signature(text)
        if name in found:
            raise invalid_argument(f"the inputs of {name or 'serving_default'} are given twice")
        found[name] = inputs
    return found


@contextmanager
def _ended_by_signals() -> Any:
    """SIGTERM ends the command as Ctrl-C does: what was being written is removed."""

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not on the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
