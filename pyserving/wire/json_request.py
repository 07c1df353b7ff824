"""The body of a REST predict request: JSON to named arrays.

Fast parsers read what is plainly right: orjson most bodies, simdjson long arrays of numbers. They may only accept.
Whatever they do not take, json_reader reads once more, by the real server's rules and with its error texts; so the
fast way must give exactly what the slow one gives, or refuse. What that takes:

- orjson keeps the last of several equal keys, not the first. Each member of an object has one colon in the text, so
  if the text has no more colons than the objects have members, no key came twice. A colon inside a string only makes
  the count too high, which is safe.
- Python's and numpy's own conversions would take ``true`` for 1, 1.0 for an integer: types are checked before.
- simdjson flattens nested lists: their regularity is proved on the brackets and commas alone.
- Of values that were lifted out of the body (json_long_values) each has to be taken: one that is passed over, as that
  of a name that is no input, was not read.
"""

import re
from collections.abc import ItemsView, Mapping
from itertools import chain
from typing import Any, Protocol

import orjson

from pyserving.core.errors import ServingError, invalid_argument
from pyserving.platforms.model import Array, TensorSpec
from pyserving.wire.json_long_values import LongValues
from pyserving.wire.json_numbers import stack_arrays
from pyserving.wire.json_reader import JsonObject, read_json
from pyserving.wire.json_tensors import NotPlainError, fill_inputs, is_base64, leaves_of, make_array
from pyserving.wire.json_text import describe

_LONG = 4096
"""Bytes from which on it pays to look for long values in a body."""

_KEY_END = re.compile(rb'"[ \t\r\n]*:')


class PredictBody(Protocol):
    """A body of which the signature is known, so that the types of its values can be looked up."""

    @property
    def signature_name(self) -> str:
        """Empty where the body names none."""
        ...

    def check(self) -> None:
        """Raises INVALID_ARGUMENT where the body is no JSON, or no object. Arrays may not have been looked at before.

        To be called before an error that has nothing to do with the body: the body's own comes first.
        """

    def tensors(self, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Array], bool]:
        """The named inputs, and whether they came as rows (``instances``, not ``inputs``).

        ``specs`` are the inputs of the signature, at least one. Arrays are C-contiguous, strings are object arrays
        of bytes. Raises INVALID_ARGUMENT, or UNIMPLEMENTED for a dtype that JSON cannot carry.
        """
        ...


def parse_predict(body: bytes) -> PredictBody:
    """Reads a predict body as far as it can be without its signature. Raises INVALID_ARGUMENT."""
    try:
        if len(body) >= _LONG:
            values = LongValues(body)
            if values.left:
                return _WithLongValues(body, values)
        return _Plain(body)
    except NotPlainError:
        return _read_whole(body)


def _read_whole(body: bytes) -> "_Plain | _Faithful":
    """A body of which all is read at once. Raises INVALID_ARGUMENT."""
    try:
        return _Plain(body)
    except NotPlainError:
        return _Faithful(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """The object that a body holds; the first of equal keys counts. Raises INVALID_ARGUMENT.

    Error texts about the object need its JsonObject, which read_object() gives.
    """
    try:
        document = _load(body)
        if type(document) is dict:
            _check_members(body, document)
            return document
    except NotPlainError:
        pass
    return read_object(body)


def read_object(body: bytes) -> JsonObject:
    """parse_object() at no speed but with all members. Raises INVALID_ARGUMENT."""
    document = read_json(body)
    if not isinstance(document, JsonObject):
        raise invalid_argument(f"JSON Value: {describe(document)} Is not object")
    return document


def signature_name_of(document: JsonObject) -> str:
    """The signature that any inference body names, or nothing. Raises INVALID_ARGUMENT."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {describe(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


class _Faithful:
    """A body by way of the slow reader."""

    def __init__(self, body: bytes) -> None:
        self._document = read_object(body)
        self.signature_name = signature_name_of(self._document)

    def check(self) -> None:
        """All was read."""

    def tensors(self, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Array], bool]:
        return fill_inputs(self._document, specs)


class _Plain:
    """A body by way of orjson."""

    def __init__(self, body: bytes, text: bytes | None = None) -> None:
        """``text``: what to read in place of the body. Raises NotPlainError."""
        self._body = body
        if text is None:
            text = body
        document = _load(text)
        if type(document) is not dict:
            raise NotPlainError
        self._document: dict[str, Any] = document
        if text.count(b":") != len(document):
            _check_members(text, document)
        name = document.get("signature_name", "")
        if type(name) is not str:
            raise NotPlainError
        self.signature_name: str = name

    def check(self) -> None:
        """All was read."""

    def tensors(self, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Array], bool]:
        try:
            return self._tensors(specs)
        except (NotPlainError, ServingError):
            return _Faithful(self._body).tensors(specs)

    def _tensors(self, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Array], bool]:
        document = self._document
        rows = "instances" in document
        if rows == ("inputs" in document):
            raise NotPlainError
        if not rows:
            inputs = document["inputs"]
            if type(inputs) is dict and not is_base64(inputs):
                return {name: self._array(_member(inputs, name), spec) for name, spec in specs.items()}, False
            return {name: self._array(inputs, spec) for name, spec in _only(specs)}, False
        instances = document["instances"]
        if not self._is_list(instances) or not instances:
            raise NotPlainError
        if type(instances[0]) is dict and not is_base64(instances[0]):
            return self._rows_of_objects(instances, specs), True
        return {name: self._array(instances, spec) for name, spec in _only(specs)}, True

    def _rows_of_objects(self, rows: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
        # With an input of the name b64, a row may look like bytes.
        if "b64" in specs or set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(specs)}:
            raise NotPlainError
        try:
            return {name: self._stack([row[name] for row in rows], spec) for name, spec in specs.items()}
        except KeyError:
            raise NotPlainError from None

    # What is different where values were lifted.

    def _is_list(self, value: Any) -> bool:
        return type(value) is list

    def _array(self, value: Any, spec: TensorSpec) -> Array:
        leaves, shape, kinds = leaves_of(value)
        return make_array(leaves, shape, kinds, spec.dtype)

    def _stack(self, values: list[Any], spec: TensorSpec) -> Array:
        return self._array(values, spec)


class _WithLongValues(_Plain):
    """A body out of which long values were lifted."""

    def __init__(self, body: bytes, values: LongValues) -> None:
        """Raises NotPlainError."""
        super().__init__(body, values.rest)
        self._values = values

    def check(self) -> None:
        _read_whole(self._body)

    def tensors(self, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Array], bool]:
        try:
            tensors = self._tensors(specs)
            if not self._values.left:
                return tensors
        except (NotPlainError, ServingError):
            pass
        return _read_whole(self._body).tensors(specs)

    def _is_list(self, value: Any) -> bool:
        return super()._is_list(value) or self._values.has_array(value)

    def _array(self, value: Any, spec: TensorSpec) -> Array:
        if self._values.has_array(value):
            return self._values.take_array(value).to_array(spec.dtype)
        leaves, shape, kinds = leaves_of(value)
        return make_array(leaves, shape, kinds, spec.dtype, self._values.decode_base64)

    def _stack(self, values: list[Any], spec: TensorSpec) -> Array:
        if all(map(self._values.has_array, values)):
            return stack_arrays([self._values.take_array(value) for value in values], spec.dtype)
        return self._array(values, spec)


def _load(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NotPlainError from None


def _check_members(body: bytes, document: dict[str, Any]) -> None:
    """Raises NotPlainError unless it is certain that no key came twice in one object."""
    colons = body.count(b":")
    members = _count_members(document, colons)
    # The second count passes over the colons in most strings, such as those of URLs. It sees one where a quotation
    # mark, escaped or not, comes before the colon: too many again, never too few.
    if members != colons and members != sum(1 for _ in _KEY_END.finditer(body)):
        raise NotPlainError


def _count_members(document: dict[str, Any], most: int) -> int:
    """The members of all objects in ``document``, which can be no more than ``most``.

    It goes level by level, so that C does the loops.
    """
    members = len(document)
    level = list(document.values())
    kinds = set(map(type, level))
    while members < most and (dict in kinds or list in kinds):
        objects = level if len(kinds) == 1 and dict in kinds else [value for value in level if type(value) is dict]
        lists = [value for value in level if type(value) is list]
        members += sum(map(len, objects))
        level = list(chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(lists)))
        kinds = set(map(type, level))
    return members


def _member(inputs: dict[str, Any], name: str) -> Any:
    if name not in inputs:
        raise NotPlainError
    return inputs[name]


def _only(specs: Mapping[str, TensorSpec]) -> ItemsView[str, TensorSpec]:
    """The items of ``specs``, of which there must be one for values without names."""
    if len(specs) != 1:
        raise NotPlainError
    return specs.items()
