"""How a signature's inputs are written on a command line: ``x=float32[?,28,28];mask=bool[?]``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pyserving.core.errors import invalid_argument

_TENSOR = re.compile(r"(?:(?P<name>[A-Za-z_][\w./-]*)\s*=\s*)?(?P<dtype>[a-z][a-z0-9_]*)\s*(?:\[(?P<shape>[^\]]*)\])?")
_SIGNATURE = re.compile(r"(?P<signature>[\w./-]+):(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class InputText:
    """One input."""

    name: str
    """Empty where none was written."""
    dtype: str
    shape: tuple[int | None, ...] | None
    """None where no shape was written: of any rank."""


def read_input_signature(text: str) -> tuple[str, list[InputText]]:
    """The signature's name, empty where none was written, and its inputs in order.

    Raises INVALID_ARGUMENT for what is not so written.
    """
    named = _SIGNATURE.fullmatch(text)
    signature, rest = (named["signature"], named["rest"]) if named else ("", text)
    return signature, [_read_input(part.strip(), text) for part in rest.split(";") if part.strip()]


def _read_input(text: str, whole: str) -> InputText:
    read = _TENSOR.fullmatch(text)
    if read is None:
        raise _wrong(text, whole)
    shape = None if read["shape"] is None else tuple(_size(part, whole) for part in _parts(read["shape"]))
    return InputText(read["name"] or "", read["dtype"], shape)


def _parts(shape: str) -> Sequence[str]:
    return [part.strip() for part in shape.split(",")] if shape.strip() else []


def _size(text: str, whole: str) -> int | None:
    if text in ("?", "None", "-1"):
        return None
    if not text.isdecimal():
        raise _wrong(text, whole)
    return int(text)


def _wrong(text: str, whole: str) -> Exception:
    where = "" if text == whole else f" in {whole!r}"
    return invalid_argument(
        f"{text!r}{where} is no input: expected such as x=float32[?,28,28], with ; between several and ? for any size"
    )
