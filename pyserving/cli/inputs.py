"""Inputs of a signature as a person writes them on a command line: ``x=[1,2]``, ``x=rows.npy``, ``x=cat.png``.

| written | is |
|---|---|
| ``x=[[1, 2], [3, 4]]``, ``x=1.5``, ``x="text"`` | JSON; ``{"b64": "..."}`` in it is a bytes value |
| ``x=np.random.rand(1, 100)`` | an expression of some of numpy's functions (``expression.py``) |
| ``x=rows.npy``, ``x=all.npz[key]``, ``x=rows.json`` | a file; the key of a .npz with one array may be left out |
| ``x=cat.png`` | a picture (``images.py``); the file as it is where the input is of strings |
| ``x=@file`` | the bytes of any file, as one string |
| ``all.json``, ``all.npz`` | several inputs by their names |
"""

import base64
import binascii
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyserving.cli.expression import ExpressionError, evaluate
from pyserving.cli.images import SUFFIXES, ImageOptions, read_image
from pyserving.client.arrays import to_array
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Array, TensorSpec

_NAMED = re.compile(r"([^=\s\[\]{}\"']+)=(.*)", re.S)
_FILE = re.compile(r"(.+\.(npy|npz|json))(?:\[(.+)\])?", re.S | re.I)
_MOST_SHOWN = 200
"""Characters of a file's name in an error."""
_NO_OPTIONS = ImageOptions()


def read_inputs(
    texts: Iterable[str], specs: Mapping[str, TensorSpec] | None = None, images: ImageOptions = _NO_OPTIONS
) -> dict[str, Array]:
    """The arrays that ``texts`` describe, by input.

    With ``specs``, the inputs of the signature: values get its dtypes, pictures its size, and a text without a name is
    for the only input. Strings are object arrays of bytes. A name that ``specs`` does not have is left to whoever
    takes the inputs. Raises INVALID_ARGUMENT, NOT_FOUND for a file that is not there, and FAILED_PRECONDITION where a
    package is missing.
    """
    inputs: dict[str, Array] = {}
    for text in texts:
        for name, value in _named_values(text, specs, images):
            if name in inputs:
                raise invalid_argument(f"input {name} is given twice")
            spec = specs.get(name) if specs is not None else None
            inputs[name] = to_array(name, value, spec.dtype if spec is not None else None)
    return inputs


def _named_values(text: str, specs: Mapping[str, TensorSpec] | None, images: ImageOptions) -> Iterable[tuple[str, Any]]:
    match = _NAMED.fullmatch(text)
    if match is not None and not os.path.isfile(text):
        name = match[1]
        return [(name, _value(name, match[2], None if specs is None else specs.get(name), images))]
    only = next(iter(specs)) if specs is not None and len(specs) == 1 else None
    file = _FILE.fullmatch(text)
    if file is not None and file[3] is None and file[2].lower() in ("npz", "json"):
        whole = _file_value("inputs", file)
        if isinstance(whole, dict) and not _is_b64(whole):
            return list(whole.items())
        if only is not None:
            return [(only, whole)]
        raise invalid_argument(f"{text} holds no values by name; say which input it is for: NAME={text}")
    if only is None:
        raise invalid_argument(f"expected NAME=VALUE, got {_short(text)!r}")
    return [(only, _value(only, text, specs[only] if specs is not None else None, images))]


def _value(name: str, text: str, spec: TensorSpec | None, images: ImageOptions) -> Any:
    text = text.strip()
    try:
        if text.startswith("@"):
            return np.array([Path(text[1:]).read_bytes()], object).reshape(
                () if spec is not None and spec.shape == () else (1,)
            )
        if Path(text).suffix.lower() in SUFFIXES and text[0] not in "[\"'{":
            return read_image(name, _existing(name, text), images, spec)
    except OSError as error:
        raise _unreadable(name, text.lstrip("@"), error) from None
    file = _FILE.fullmatch(text)
    if file is not None and text[0] not in "[\"'{":
        value = _file_value(name, file)
        if isinstance(value, dict) and not _is_b64(value):
            if name in value:
                return value[name]
            if len(value) != 1:
                keys = ", ".join(value)
                raise invalid_argument(f"input {name}: {text} holds {keys}; say which: {name}={text}[KEY]")
            return next(iter(value.values()))
        return value
    try:
        return _with_bytes(name, orjson.loads(text))
    except orjson.JSONDecodeError:
        pass
    try:
        return evaluate(text)
    except ExpressionError as error:
        raise invalid_argument(
            f"input {name}: {text[:80]!r} is neither JSON, nor a file's name, nor an expression ({error}); "
            'a text is written in quotes: "text"'
        ) from None


def _file_value(name: str, file: re.Match[str]) -> Any:
    """What a file holds; a .npz and a JSON object by their names, unless one of these is picked."""
    path, kind, key = _existing(name, file[1]), file[2].lower(), file[3]
    value: Any
    try:
        if kind == "json":
            value = _with_bytes(name, orjson.loads(path.read_bytes()))
        else:
            loaded = np.load(path, allow_pickle=False)  # a pickle could run anything
            value = dict(loaded) if kind == "npz" else loaded
    except OSError as error:
        raise _unreadable(name, str(path), error) from None
    except Exception as error:  # a bad file fails numpy in many ways
        raise invalid_argument(f"input {name}: {path} is no .{kind} file that can be read: {error}") from None
    if key is None:
        return value
    if not isinstance(value, dict) or key not in value:
        found = ", ".join(value) if isinstance(value, dict) else "one value without a name"
        raise invalid_argument(f"input {name}: {path} has no {key!r}; it holds {found}")
    return value[key]


def _existing(name: str, text: str) -> Path:
    path = Path(text)
    if not os.path.exists(path):  # not Path's own, which fails for what is too long for a name
        raise ServingError(Code.NOT_FOUND, f"input {name}: there is no file {_short(text)}")
    return path


def _unreadable(name: str, path: str, error: OSError) -> ServingError:
    code = Code.NOT_FOUND if isinstance(error, FileNotFoundError) else Code.INVALID_ARGUMENT
    return ServingError(code, f"input {name}: {_short(path)} cannot be read: {error.strerror or error}")


def _short(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _with_bytes(name: str, value: Any) -> Any:
    """JSON values with each ``{"b64": ...}`` as the bytes that it stands for."""
    if isinstance(value, list):
        return [_with_bytes(name, item) if isinstance(item, list | dict) else item for item in value]
    if not isinstance(value, dict):
        return value
    if not _is_b64(value):
        return {key: _with_bytes(name, item) for key, item in value.items()}
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise invalid_argument(f"input {name}: no base64 in {str(value['b64'])[:40]!r}: {error}") from None
