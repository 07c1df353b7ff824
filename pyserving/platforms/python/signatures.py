"""From the annotations of a class to its signatures."""

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyserving.authoring import OPTIONS, Model, SignatureOptions, TensorType, default_name
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import DTYPE_OF, DType
from pyserving.platforms.model import Array, Signature, TensorSpec
from pyserving.platforms.python.values import as_array
from pyserving.platforms.signature_def import PREDICT_METHOD

ONLY_OUTPUT = "output_0"
"""The name of an output that model code returns bare; Keras gives the same one to its exported models."""

_ITERATORS = (Iterator, Generator, AsyncIterator, AsyncGenerator)


@dataclass(frozen=True, slots=True, eq=False)
class BoundSignature:
    """A signature, and the method that computes it."""

    signature: Signature
    method: str
    inputs: Mapping[str, TensorType]
    bare: bool
    """The method returns the one output itself, not by name."""
    is_async: bool


def read_signatures(cls: type[Model]) -> dict[str, BoundSignature]:
    """By the names of the signatures. Raises FAILED_PRECONDITION where an annotation is missing or wrong."""
    found: dict[str, BoundSignature] = {}
    for attribute in dir(cls):
        method = inspect.getattr_static(cls, attribute)
        options = getattr(method, OPTIONS, None)
        if options is None and attribute == "predict":
            options = SignatureOptions(default_name(attribute), row_wise=False)
        if options is None:
            continue
        where = f"{cls.__name__}.{attribute}"
        if not inspect.isfunction(method):
            raise _wrong(where, "a signature must be a method")
        if options.name in found:
            raise _wrong(where, f"{found[options.name].method} is signature {options.name} already")
        found[options.name] = _bind(where, attribute, method, options)
    if not found:
        raise _wrong(cls.__name__, "expected a method predict, or one marked with @signature")
    return found


def _bind(where: str, attribute: str, method: Any, options: SignatureOptions) -> BoundSignature:
    try:
        read = inspect.signature(method, eval_str=True)
    except Exception as error:
        raise _wrong(where, f"its annotations cannot be read: {type(error).__name__}: {error}") from None
    inputs: dict[str, TensorSpec] = {}
    kinds: dict[str, TensorType] = {}
    defaults: dict[str, Array] = {}
    for parameter in list(read.parameters.values())[1:]:
        name = parameter.name
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise _wrong(where, f"{parameter} cannot be an input, which is given by its name")
        kinds[name] = _tensor_type(where, f"parameter {name}", parameter.annotation)
        inputs[name] = _spec(name, kinds[name])
        if parameter.default is not parameter.empty:
            try:
                defaults[name] = as_array(parameter.default, inputs[name].dtype)
            except ValueError as error:
                raise _wrong(where, f"the default of {name}: {error}") from None
    returned = read.return_annotation
    streams = inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method)
    if streams and typing.get_origin(returned) in _ITERATORS:
        returned = typing.get_args(returned)[0]
    bare, outputs = _outputs(where, returned)
    if options.row_wise:
        if streams:
            raise _wrong(where, "a streamed answer cannot be row_wise")
        for spec in (*inputs.values(), *outputs.values()):
            if spec.shape is None or not spec.shape or spec.shape[0] is not None:
                raise _wrong(where, f"row_wise needs tensors whose first size is None, which {spec.name} has not")
    signature = Signature(
        name=options.name,
        inputs=inputs,
        outputs=outputs,
        method_name=PREDICT_METHOD,
        defaults=defaults,
        stateless=options.row_wise,
        steady=False,
        row_wise=options.row_wise,
        row_wise_promised=options.row_wise,
        streams=streams,
    )
    is_async = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
    return BoundSignature(signature, attribute, kinds, bare, is_async)


def _outputs(where: str, returned: Any) -> tuple[bool, dict[str, TensorSpec]]:
    if typing.is_typeddict(returned):
        returned = typing.get_type_hints(returned, include_extras=True)
    if isinstance(returned, dict):
        if not returned or not all(isinstance(name, str) for name in returned):
            raise _wrong(where, "the names of outputs must be strings, at least one")
        return False, {
            name: _spec(name, _tensor_type(where, f"output {name}", annotation))
            for name, annotation in returned.items()
        }
    return True, {ONLY_OUTPUT: _spec(ONLY_OUTPUT, _tensor_type(where, "what is returned", returned))}


def _tensor_type(where: str, what: str, annotation: Any) -> TensorType:
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, TensorType):
            return extra
    given = "nothing" if annotation is inspect.Signature.empty else repr(annotation)
    raise _wrong(where, f"{what} must be annotated as a Tensor[...], got {given}")


def _spec(name: str, kind: TensorType) -> TensorSpec:
    if kind.dtype in ("str", "bytes"):
        dtype = DType.STRING
    elif kind.dtype == "bfloat16":
        dtype = DType.BFLOAT16
    else:
        dtype = DTYPE_OF[np.dtype(kind.dtype)]
    return TensorSpec(name, f"{name}:0", dtype, kind.shape)


def _wrong(where: str, what: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, f"model.py: {where}: {what}")
