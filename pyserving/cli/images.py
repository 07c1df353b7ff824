"""Pictures as arrays, in the shape and the range of values that a model wants."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Array, TensorSpec

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"))

SCALES: Mapping[str, tuple[float, float]] = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (2 / 255, -1.0)}
"""By the range of values wanted: what to multiply those of 0 to 255 with, and what to add."""


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How pictures become arrays."""

    size: tuple[int, int] | None = None
    """Height and width to resize to; None: what the signature says, else as it is."""
    scale: str = ""
    """A key of SCALES; empty: 0..255 where the input is of integers, else 0..1."""
    gray: bool | None = None
    """One channel; None: where the signature has one, or none."""


def read_image(name: str, path: Path, options: ImageOptions, spec: TensorSpec | None) -> Array:
    """The picture as [1, height, width, channels], or without its channels, or its batch, where ``spec`` has none.

    float32, or uint8 where ``spec`` is of integers and nothing is scaled; the file's own bytes, [1] or a scalar, where
    ``spec`` is of strings. ``name`` is the input's, for errors. Raises INVALID_ARGUMENT, NOT_FOUND, and
    FAILED_PRECONDITION where Pillow is not installed.
    """
    if spec is not None and spec.dtype is DType.STRING:
        encoded = np.empty(() if spec.shape == () else (1,), object)
        encoded[...] = path.read_bytes()
        return encoded
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ServingError(
            Code.FAILED_PRECONDITION, "reading pictures needs Pillow: pip install 'pyserving[images]'"
        ) from None
    shape = None if spec is None else spec.shape
    rank = 4 if shape is None else len(shape)
    if rank not in (2, 3, 4):
        raise invalid_argument(f"input {name}: a picture has 2 to 4 dimensions, the signature wants {rank}")
    channels_last = rank == 4 or (rank == 3 and shape is not None and shape[-1] in (1, 3))
    gray = options.gray
    if gray is None:
        gray = not channels_last or (shape is not None and shape[-1] == 1)
    size = options.size or _size(shape, rank, channels_last)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                picture = ImageOps.exif_transpose(opened).convert("L" if gray else "RGB")
    except Exception as error:  # a bad picture fails Pillow in many ways, SyntaxError among them
        raise invalid_argument(f"input {name}: {path} is no picture that can be read: {error}") from None
    if size is not None and (picture.height, picture.width) != size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    integers = spec is not None and spec.dtype not in (DType.FLOAT, DType.DOUBLE, DType.HALF, DType.BFLOAT16)
    scale = options.scale or ("0..255" if integers else "0..1")
    if not integers or scale != "0..255":
        factor, offset = SCALES[scale]
        pixels = pixels.astype(np.float32) * np.float32(factor) + np.float32(offset)
    if gray and channels_last:
        pixels = pixels[..., None]
    return pixels if rank == 2 + channels_last else pixels[None]


def _size(shape: tuple[int | None, ...] | None, rank: int, channels_last: bool) -> tuple[int, int] | None:
    """The height and width of a signature, where it has them."""
    if shape is None:
        return None
    height, width = shape[-3:-1] if channels_last else shape[-2:]
    return (height, width) if height is not None and width is not None and rank >= 2 else None
