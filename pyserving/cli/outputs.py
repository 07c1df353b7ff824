"""Answers on a terminal or in files: tables for people, JSON and .npy files for programs."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyserving.cli.terminal import results_to
from pyserving.core.errors import Code, ServingError
from pyserving.inspection.description import dtype_name
from pyserving.platforms.dtypes import DTYPE_OF, DType
from pyserving.platforms.model import Array
from pyserving.sources.os_errors import serving_error
from pyserving.wire.json_writer import array_text

TABLE, JSON, NPY = "table", "json", "npy"
_MOST_ROWS = 50
_MOST_IN_CELL = 12


def output_option(function: Any) -> Any:
    """``-o``, ``--outdir`` and ``--overwrite``, for ``print_outputs``."""
    for option in (
        click.option("--overwrite", is_flag=True, help="Replace files that are there."),
        click.option(
            "--outdir",
            type=click.Path(file_okay=False),
            help="Write each output to a file NAME.npy in this folder, too.",
        ),
        click.option("-o", "--output", type=click.Choice([TABLE, JSON, NPY]), default=TABLE, show_default=True),
        click.option("--json", "output", flag_value=JSON, help="Short for -o json."),
    ):
        function = option(function)
    return function


def print_outputs(outputs: Mapping[str, Array], form: str) -> None:
    """Prints one answer; in form NPY the only output's bytes, for a pipe. Raises ServingError."""
    if form == JSON:
        click.echo(outputs_json(outputs))
    elif form == NPY:
        _print_npy(outputs)
    else:
        _print_tables(results_to(), outputs)


def outputs_json(outputs: Mapping[str, Array]) -> bytes:
    """``{"outputs": {...}}``, always by name, in the numbers and texts of a REST answer; what is no text as b64."""
    parts = [escape_json(name) + b":" + _text(name, array) for name, array in outputs.items()]
    return b'{"outputs":{' + b",".join(parts) + b"}}"


def write_files(outputs: Mapping[str, Array], folder: str, *, overwrite: bool) -> list[str]:
    """A .npy file for each output; returns their paths. Raises ALREADY_EXISTS, and what the system says."""
    paths = {name: os.path.join(folder, f"{name.replace('/', '_')}.npy") for name in outputs}
    taken = [path for path in paths.values() if os.path.exists(path)]
    if taken and not overwrite:
        raise ServingError(Code.ALREADY_EXISTS, f"{taken[0]} exists already; --overwrite replaces it")
    try:
        os.makedirs(folder, exist_ok=True)
        for name, path in paths.items():
            np.save(path, _saved(name, outputs[name]), allow_pickle=False)
    except OSError as error:
        raise serving_error(error.filename or folder, error) from None
    return list(paths.values())


def escape_json(text: str) -> bytes:
    return array_text("", np.array([text.encode()], object))[1:-1]


def _text(name: str, array: Array) -> bytes:
    try:
        return array_text(name, array)
    except ServingError:
        if array.dtype != object:
            raise
        return array_text(f"{name}_bytes", array)  # written as b64, for it is no UTF-8


def _saved(name: str, array: Array) -> Array:
    """Strings as numpy's bytes, which files can hold without pickles; they lose zero bytes at their ends."""
    if array.dtype != object:
        return array
    if any(isinstance(value, bytes) and value.endswith(b"\0") for value in array.flat):
        raise ServingError(Code.INVALID_ARGUMENT, f"output {name} has strings that end in a zero byte: use -o json")
    return array.astype(np.bytes_)


def _print_npy(outputs: Mapping[str, Array]) -> None:
    if len(outputs) != 1:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"there are {len(outputs)} outputs; choose one with --output-name, or use --outdir"
        )
    stream = sys.stdout.buffer
    if stream.isatty():
        raise ServingError(Code.INVALID_ARGUMENT, "a terminal cannot show .npy: send it to a file, or use --outdir")
    ((name, array),) = outputs.items()
    np.save(stream, _saved(name, array), allow_pickle=False)
    stream.flush()


def _print_tables(console: Console, outputs: Mapping[str, Array]) -> None:
    """One table with a line per row where all outputs have as many rows and these are short; else each by itself."""
    rows = {len(array) if array.ndim else -1 for array in outputs.values()}
    short = all(
        array.ndim in (1, 2) and (array.ndim == 1 or array.shape[1] <= _MOST_IN_CELL) for array in outputs.values()
    )
    if len(rows) == 1 and short:
        _print_rows(console, outputs, rows.pop())
        return
    for name, array in outputs.items():
        console.print(f"[bold]{escape(name)}[/]  {_kind(array)}", soft_wrap=True)
        console.print(escape(np.array2string(_plain(array), threshold=_MOST_ROWS * _MOST_IN_CELL)), soft_wrap=True)


def _print_rows(console: Console, outputs: Mapping[str, Array], rows: int) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, array in outputs.items():
        table.add_column(f"{escape(name)} [dim]{_kind(array)}[/]", justify="left" if array.dtype == object else "right")
    for row in range(min(rows, _MOST_ROWS)):
        table.add_row(*(escape(_cell(array[row])) for array in outputs.values()))
    console.print(table)
    if rows > _MOST_ROWS:
        console.print(f"... and {rows - _MOST_ROWS} more rows (-o json shows all)")


def _kind(array: Array) -> str:
    shape = ",".join(map(str, array.shape))
    return f"{dtype_name(DTYPE_OF.get(array.dtype, DType.INVALID))}({shape})"


def _cell(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "  ".join(_cell(one) for one in value)
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, np.void):
        return str(value[0])
    return f"{value:.6g}" if isinstance(value, np.floating) else str(value)


def _plain(array: Array) -> Array:
    return array.view(array.dtype[0]) if array.dtype.names else array


def as_pieces(pieces: Sequence[Mapping[str, Array]], form: str) -> None:
    """Prints a streamed answer, piece by piece; in JSON one line each."""
    for piece in pieces:
        print_outputs(piece, form)
