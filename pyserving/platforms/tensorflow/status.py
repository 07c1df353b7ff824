"""What a call of TensorFlow's C API ended with."""

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.tensorflow.library import TensorFlow


class Status:
    """A ``TF_Status`` to hand to calls and to look at after each. A context manager."""

    def __init__(self, tf: TensorFlow) -> None:
        self._tf = tf
        self.address: int = tf.new_status()

    def check(self) -> None:
        """Raises what the last call failed with, with TensorFlow's code and text."""
        code = self._tf.get_code(self.address)
        if code:
            raise ServingError(_code(code), _text(self._tf.message(self.address)))

    def delete(self) -> None:
        self._tf.delete_status(self.address)

    def __enter__(self) -> "Status":
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()


def _code(number: int) -> Code:
    try:
        return Code(number)
    except ValueError:
        return Code.UNKNOWN


def _text(message: bytes) -> str:
    """Some texts quote bytes of a request that are no UTF-8: gRPC clients read such bytes as Latin-1."""
    try:
        return message.decode()
    except UnicodeDecodeError:
        return message.decode("latin-1")
