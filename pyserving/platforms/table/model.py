"""A loaded table."""

from collections.abc import Mapping, Sequence

import numpy as np

from pyserving.core.errors import invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF, DType
from pyserving.platforms.input_check import check_input
from pyserving.platforms.model import Array, Signature, TensorSpec
from pyserving.platforms.signature_def import DEFAULT_SIGNATURE, PREDICT_METHOD, signature_defs
from pyserving.platforms.table.columns import Column
from pyserving.platforms.table.files import find_file, read_file
from pyserving.protos.messages import SignatureDef

FOUND = "found"
"""The output that says which keys there are."""


class TableModel:
    """A ``Model``: keys in, for each column the values in the rows of these keys.

    A key that is not there has zeros, empty strings and False, and ``found`` says so.
    """

    def __init__(self, folder: str) -> None:
        """Reads the table in ``folder``. Raises ServingError."""
        path = find_file(folder)
        if path is None:
            raise invalid_argument(f"{folder} holds no table")
        keys, *columns = read_file(path)
        self._find = _finder(path, keys)
        if not columns:
            raise invalid_argument(f"{path}: expected columns beside the keys, found none")
        names = [column.name for column in (keys, *columns)]
        if len(set(names)) < len(names) or FOUND in names:
            raise invalid_argument(f"{path}: columns must be named otherwise than each other and {FOUND}, got {names}")
        # What is there for keys that are not lies behind the last row, where the index -1 finds it.
        self._columns = {column.name: _with_default(column.values) for column in columns}
        self._input = _spec(keys.name, keys.values)
        outputs = {column.name: _spec(column.name, column.values) for column in columns}
        outputs[FOUND] = TensorSpec(FOUND, f"{FOUND}:0", DType.BOOL, (None,))
        signature = Signature(
            name=DEFAULT_SIGNATURE,
            inputs={keys.name: self._input},
            outputs=outputs,
            method_name=PREDICT_METHOD,
            stateless=True,
            row_wise=True,
        )
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: signature}
        self.signature_defs: Mapping[str, SignatureDef] = signature_defs(self.signatures)

    def run(
        self,
        signature: Signature,  # noqa: ARG002 - there is one
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,  # noqa: ARG002 - it does not take long
        inline: bool = False,  # noqa: ARG002
    ) -> list[Array]:
        """See ``Model.run``."""
        keys = inputs[self._input.name]
        check_input(self._input, keys)
        rows = self._find(keys)
        return [rows >= 0 if name == FOUND else self._columns[name][rows] for name in outputs]

    def close(self) -> None:
        self._columns.clear()


class _Dictionary:
    """Rows of keys that are strings."""

    def __init__(self, path: str, keys: Array) -> None:
        self._rows = {key: row for row, key in enumerate(keys.tolist())}
        if len(self._rows) < len(keys):
            twice = next(key for row, key in enumerate(keys.tolist()) if self._rows[key] != row)
            raise _repeated(path, twice.decode(errors="replace"))

    def __call__(self, keys: Array) -> Array:
        row = self._rows.get
        return np.fromiter([row(key, -1) for key in keys.tolist()], np.int64, len(keys))


class _Sorted:
    """Rows of keys that are whole numbers."""

    def __init__(self, path: str, keys: Array) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        if (same := np.flatnonzero(self._keys[1:] == self._keys[:-1])).size:
            raise _repeated(path, self._keys[same[0]])

    def __call__(self, keys: Array) -> Array:
        if not len(self._keys):
            return np.full(len(keys), -1)
        places = np.searchsorted(self._keys, keys)
        places[places == len(self._keys)] = 0
        return np.where(self._keys[places] == keys, self._order[places], -1)


def _finder(path: str, keys: Column) -> "_Dictionary | _Sorted":
    values = keys.values
    if values.ndim == 1 and values.dtype == object:
        return _Dictionary(path, values)
    if values.ndim == 1 and values.dtype.kind in "iu":
        return _Sorted(path, values)
    raise invalid_argument(
        f"{path}: keys, in column {keys.name}, must be whole numbers or strings, not {values.dtype.name}"
        " (a heading that ends in :str makes them strings)"
    )


def _with_default(values: Array) -> Array:
    default = np.zeros((1, *values.shape[1:]), values.dtype)
    if values.dtype == object:
        default[:] = b""
    return np.concatenate([values, default])


def _spec(name: str, values: Array) -> TensorSpec:
    return TensorSpec(name, f"{name}:0", DTYPE_OF[values.dtype], (None, *values.shape[1:]))


def _repeated(path: str, key: object) -> Exception:
    return invalid_argument(f"{path}: the key {key} comes more than once")
