"""``pyserving show``: what a model is, without serving it."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from pyserving.cli.asking import connection_options
from pyserving.cli.completion_of_names import complete_signatures
from pyserving.cli.ending import ending
from pyserving.cli.local_options import op_library_option, python_models_option
from pyserving.cli.served_model import describe_served
from pyserving.cli.terminal import results_to
from pyserving.cli.version_folder import VersionFolder, find_version
from pyserving.core.errors import Code, ServingError
from pyserving.inspection.describe import describe
from pyserving.inspection.description import (
    DENSE,
    Description,
    GraphDescription,
    SignatureDescription,
    TensorDescription,
    to_json,
)
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.server.warmup import FILE as WARMUP_FILE
from pyserving.validation.samples import read_logs

_INITIALISATION = "__saved_model_init_op"
_SERVE = frozenset({"serve"})
_ADDRESS = re.compile(r"localhost|(?:\[[0-9a-fA-F:]+\]|[\w.-]+):\d+|unix:.+")
"""Of a server, where it has no scheme."""


@click.command()
@click.argument("path", metavar="PATH|URL", type=click.Path())
@click.option("--model", help="At a URL, which model; not needed where the server has but one.")
@click.option("--all", "everything", is_flag=True, help="All graphs, operations one by one, functions, assets.")
@click.option("--tag", "tags", help="Only the graph with these tags, with commas between.")
@click.option("--signature", shell_complete=complete_signatures, help="Only this signature.")
@python_models_option(PythonModels.OFF)
@op_library_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
@connection_options
def show(
    path: str,
    model: str | None,
    everything: bool,
    tags: str | None,
    signature: str | None,
    python_models: str,
    op_libraries: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Shows the model at PATH: its signatures with their inputs and outputs, operations, variables and size.

    PATH is a version folder, a folder of versions (the latest is shown), or a model file. At the URL of a server, such
    as localhost, http://host:8501 or grpc://host:8500, the signatures are shown that it tells.
    """
    with ending("cannot show"):
        if _is_address(path):
            found = describe_served(path, model, options)
        else:
            found = _describe(path, PythonModels(python_models), op_libraries)
        found = _chosen(found, tags, signature, everything=everything or as_json)
    if as_json:
        click.echo(json.dumps(to_json(found), indent=1))
    else:
        _print(results_to(), found, everything=everything)


def _is_address(text: str) -> bool:
    return "://" in text or (_ADDRESS.fullmatch(text) is not None and not os.path.exists(text))


def _describe(path: str, python_models: PythonModels, op_libraries: Sequence[str]) -> Description:
    context = PlatformContext(python_options=PythonOptions(python_models))
    with find_version(path) as folder:
        found = describe(folder.path, context, op_libraries=op_libraries)
        return replace(found, path=_shown_path(folder), warmup_records=_count_warmup(folder.path))


def _shown_path(folder: VersionFolder) -> str:
    """A folder, or the file that was given: what a file was put into is gone by now."""
    return folder.given if os.path.isfile(folder.given) else folder.path


def _count_warmup(folder: str) -> int | None:
    path = os.path.join(folder, WARMUP_FILE)
    if not os.path.exists(path):
        return None
    return sum(1 for _ in read_logs(path, "warmup"))


def _chosen(found: Description, tags: str | None, signature: str | None, *, everything: bool) -> Description:
    """Without the graphs and signatures that were not asked for. Raises NOT_FOUND where nothing is left."""
    graphs = list(found.graphs)
    if tags is not None:
        wanted = {tag for tag in tags.split(",") if tag}
        graphs = [graph for graph in graphs if set(graph.tags) == wanted]
        if not graphs:
            there = "; ".join(",".join(graph.tags) or "none" for graph in found.graphs)
            raise ServingError(Code.NOT_FOUND, f"no graph has exactly the tags {tags}: there are {there}")
    elif not everything:
        graphs = [graph for graph in graphs if set(graph.tags) == _SERVE] or graphs
    if signature is not None:
        there = ", ".join(sorted({name for graph in graphs for name in graph.signatures}))
        graphs = [
            replace(graph, signatures={signature: graph.signatures[signature]})
            for graph in graphs
            if signature in graph.signatures
        ]
        if not graphs:
            raise ServingError(Code.NOT_FOUND, f"no signature {signature}: there are {there or 'none'}")
    elif not everything:
        graphs = [
            replace(graph, signatures={k: v for k, v in graph.signatures.items() if k != _INITIALISATION})
            for graph in graphs
        ]
    return replace(found, graphs=graphs)


def _print(console: Console, found: Description, *, everything: bool) -> None:
    size = "" if found.size_bytes is None else f", {decimal(found.size_bytes)}"
    console.print(f"[bold]{escape(found.path)}[/]  {found.platform}{size}", soft_wrap=True)
    facts: dict[str, str] = {}
    if found.variables is not None:
        count = found.variables.count
        facts["variables"] = (
            f"{count}: {found.variables.elements} elements, {decimal(found.variables.size_bytes)}" if count else "none"
        )
    if found.fingerprint:
        shown = found.fingerprint if everything else dict(list(found.fingerprint.items())[:1])
        facts["fingerprint"] = ", ".join(f"{name} {value}" for name, value in shown.items())
    if found.warmup_records is not None:
        facts["warmup"] = f"{found.warmup_records} requests"
    _print_facts(console, facts)
    for graph in found.graphs:
        _print_graph(console, graph, everything=everything)


def _print_facts(console: Console, facts: Mapping[str, str]) -> None:
    for name, value in facts.items():
        console.print(f"  {name:<12} {escape(value)}", soft_wrap=True)


def _print_graph(console: Console, graph: GraphDescription, *, everything: bool) -> None:
    if graph.tags:
        console.print()
        console.print(f"[bold]tags[/] {escape(', '.join(graph.tags))}", soft_wrap=True)
    facts: dict[str, str] = {}
    if graph.producer:
        facts["written by"] = graph.producer
    if graph.ops is not None:
        facts["operations"] = f"{sum(graph.ops.values())} of {len(graph.ops)} kinds"
        if graph.not_registered:
            facts["custom"] = f"{', '.join(graph.not_registered)} (not registered in the engine)"
    if graph.functions:
        facts["functions"] = str(len(graph.functions))
    if graph.assets:
        facts["assets"] = ", ".join(graph.assets)
    _print_facts(console, facts)
    for name, signature in graph.signatures.items():
        _print_signature(console, name, signature)
    if everything and graph.ops:
        console.print()
        table = _table("operation", "times")
        for op, times in graph.ops.items():
            table.add_row(escape(op), str(times))
        console.print(table)
        for function in graph.functions:
            console.print(f"function {escape(function)}", soft_wrap=True)


def _print_signature(console: Console, name: str, signature: SignatureDescription) -> None:
    console.print()
    streams = "  streams" if signature.streams else ""
    method = f"  [dim]{escape(signature.method_name)}[/]" if signature.method_name else ""
    console.print(f"[bold]{escape(name)}[/]{method}{streams}", soft_wrap=True)
    table = _table("", "name", "dtype", "shape", "tensor")
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for alias, tensor in tensors.items():
            table.add_row(*map(escape, _row(kind, alias, tensor)))
    console.print(table)


def _row(kind: str, alias: str, tensor: TensorDescription) -> tuple[str, ...]:
    if tensor.optional:
        kind = "input, optional"
    shape = "unknown rank" if tensor.shape is None else str(tensor.shape).replace(",)", ")")
    return f"  {kind}", alias, tensor.dtype, tensor.encoding if tensor.encoding != DENSE else shape, tensor.tensor_name


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=True)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table
