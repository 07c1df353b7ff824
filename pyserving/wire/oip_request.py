"""What an inference request of the Open Inference Protocol asks for, whatever wire it came by."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Array
from pyserving.wire.oip_tensors import Parameter

SIGNATURE_NAME = "signature_name"
"""The parameter that names the signature to run, which the protocol itself does not know."""


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that the client asks for by name."""

    name: str
    binary: bool = False
    """Over REST: its values are to follow the JSON as raw bytes."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """An inference request, its tensors read."""

    id: str
    """What the client calls it; it comes back with the answer."""
    parameters: Mapping[str, Parameter]
    inputs: Mapping[str, Array]
    outputs: Sequence[WantedOutput]
    """Empty: all that there are."""
    binary: bool = False
    """As in WantedOutput, where ``outputs`` is empty."""
    typed: bool = False
    """Over gRPC: values came in fields of their type, and are to be answered so."""

    @property
    def signature_name(self) -> str:
        """Empty where the request names none. Raises INVALID_ARGUMENT."""
        name = self.parameters.get(SIGNATURE_NAME, "")
        if not isinstance(name, str):
            raise invalid_argument(f"Expected the parameter {SIGNATURE_NAME} to be a string, got {name!r}")
        return name

    @property
    def timeout(self) -> float | None:
        """Seconds that it may take; None: the client does not say. Raises INVALID_ARGUMENT."""
        micros = self.parameters.get("timeout")
        if micros is None:
            return None
        if isinstance(micros, bool) or not isinstance(micros, int) or micros < 0:
            raise invalid_argument(f"Expected the parameter timeout to be a number of microseconds, got {micros!r}")
        return micros * 1e-6 if micros else None


def check_parameters(parameters: Mapping[str, Parameter]) -> None:
    """Raises UNIMPLEMENTED for what a request asks for and this server does not do."""
    if parameters.get("sequence_id"):
        raise ServingError(Code.UNIMPLEMENTED, "Sequences are not supported: expected no sequence_id")


def check_tensor_parameters(what: str, parameters: Iterable[str]) -> None:
    """The same for the parameters of one tensor; ``what`` names it."""
    for name in parameters:
        if name.startswith("shared_memory_"):
            raise ServingError(Code.UNIMPLEMENTED, f"{what}: shared memory is not supported; send the values")
        if name == "classification":
            raise ServingError(Code.UNIMPLEMENTED, f"{what}: the classification extension is not supported")


def check_not_there(name: str, inputs: Mapping[str, Array]) -> None:
    """Raises INVALID_ARGUMENT where an input comes twice."""
    if name in inputs:
        raise invalid_argument(f"input {name}: expected once, got twice")
