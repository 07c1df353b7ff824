"""``pyserving predict``: sends inputs to a server and shows the outputs."""

from typing import Any

import click

from pyserving.cli.asking import (
    asking,
    choose_model,
    choose_signature,
    connect,
    connection_options,
    inputs_option,
)
from pyserving.cli.ending import usage_errors
from pyserving.cli.image_options import image_options, read_image_options
from pyserving.cli.inputs import read_inputs
from pyserving.cli.outputs import NPY, output_option, print_outputs, write_files
from pyserving.cli.terminal import errors_to


@click.command()
@click.argument("url")
@click.option("-m", "--model", help="Name of the model; may be left out where the server has only one.")
@click.option("--version", type=click.IntRange(min=0), help="Number of the version; by default the server chooses.")
@click.option("--label", help="Label of the version, such as stable.")
@click.option("-s", "--signature", default="serving_default", show_default=True)
@inputs_option
@image_options
@click.option("--output-name", "output_names", multiple=True, help="Show this output only; may be given several times.")
@output_option
@click.option("--stream", is_flag=True, help="Show the pieces of a streamed answer as they come.")
@connection_options
def predict(
    url: str,
    model: str | None,
    version: int | None,
    label: str | None,
    signature: str,
    texts: tuple[str, ...],
    image_size: str | None,
    image_scale: str | None,
    image_gray: bool | None,
    output_names: tuple[str, ...],
    output: str,
    outdir: str | None,
    overwrite: bool,
    stream: bool,
    **options: Any,
) -> None:
    """Asks the server at URL, such as localhost, http://host:8501 or grpc://host:8500.

    pyserving predict localhost -m half_plus_two -i 'x=[1.0, 2.0]'

    Exits with 0, with 1 if the server refuses, 2 if the command cannot be right, 3 if no server answers.
    """
    images = read_image_options(image_size, image_scale, image_gray)
    which: dict[str, Any] = {"signature": signature, "version": version, "label": label, "outputs": output_names}
    with connect(url, options) as client:
        with asking():
            name = choose_model(client, model)
            described = choose_signature(client.metadata(name, version=version, label=label), signature)
        with usage_errors():
            inputs = read_inputs(texts, described.inputs, images)
        with asking():
            if stream:
                for piece in client.predict_streamed(name, inputs, **which):
                    print_outputs(piece, output)
                return
            answer = client.predict(name, inputs, **which)
        with usage_errors():
            if outdir is not None:
                for path in write_files(answer, outdir, overwrite=overwrite):
                    errors_to().print(f"wrote {path}", markup=False, soft_wrap=True)
            if outdir is None or output != NPY:
                print_outputs(answer, output)
