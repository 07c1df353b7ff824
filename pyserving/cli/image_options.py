"""Options that say how a picture becomes an array."""

from collections.abc import Callable
from typing import Any

import click

from pyserving.cli.images import SCALES, ImageOptions


def image_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--image-size``, ``--image-scale`` and ``--image-gray``, for ``read_image_options``."""
    for option in (
        click.option("--image-gray/--image-color", default=None, help="Channels; by default what the signature has."),
        click.option("--image-scale", type=click.Choice(list(SCALES)), help="Range of a picture's values."),
        click.option("--image-size", metavar="HxW", help="Resize pictures; by default to what the signature says."),
    ):
        function = option(function)
    return function


def read_image_options(size: str | None, scale: str | None, gray: bool | None) -> ImageOptions:
    """Raises click's UsageError."""
    if size is None:
        return ImageOptions(None, scale or "", gray)
    height, by, width = size.lower().partition("x")
    if not (by and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise click.UsageError(f"--image-size must be such as 224x224, not {size}")
    return ImageOptions((int(height), int(width)), scale or "", gray)
