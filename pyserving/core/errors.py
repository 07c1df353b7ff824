"""The one exception that reaches a client, and its canonical codes."""

from enum import IntEnum


class Code(IntEnum):
    """Canonical status codes, numbered as on the wire (gRPC and ``tensorflow.error.Code``)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(Exception):
    """A failure that a client may see: a code and a text that says what was expected and what came.

    Anything else that escapes is a bug of ours: the client gets INTERNAL, the log gets the traceback.
    """

    retry_after: float | None = None
    """Seconds after which the same request may be answered; None: nothing is known of that."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["ServingError"], tuple[Code, str]]:
        return type(self), (self.code, self.message)  # an Exception's own way forgets the code

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid_argument(message: str) -> ServingError:
    """The commonest one: what the client sent cannot be right, whenever it is sent."""
    return ServingError(Code.INVALID_ARGUMENT, message)
