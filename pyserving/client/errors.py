"""What a call raises: ``ServingError`` with the code and the text of the server, and what is ours to say."""

from pyserving.core.errors import Code, ServingError

CLOSED = "this client is closed"


class Unreachable(ServingError):  # noqa: N818 - the state of a server, as its fellow codes are
    """Nobody answered: nothing listens there, the connection broke, or no certificate was accepted. UNAVAILABLE."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.UNAVAILABLE, message)

    def __reduce__(self) -> tuple[type["Unreachable"], tuple[str]]:  # type: ignore[override]
        return type(self), (self.message,)


class NotOffered(ServingError):  # noqa: N818
    """The protocol has no such method, or the server does not serve it. UNIMPLEMENTED."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.UNIMPLEMENTED, message)

    def __reduce__(self) -> tuple[type["NotOffered"], tuple[str]]:  # type: ignore[override]
        return type(self), (self.message,)


class Mismatch(ServingError):  # noqa: N818
    """An answer that is not as the signature says. INTERNAL."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.INTERNAL, message)

    def __reduce__(self) -> tuple[type["Mismatch"], tuple[str]]:  # type: ignore[override]
        return type(self), (self.message,)
