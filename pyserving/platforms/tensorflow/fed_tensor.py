"""What is fed, kept for the next run: to fill a tensor again takes a tenth of the time of making one."""

import ctypes
from typing import Self

from pyserving.platforms.model import Array
from pyserving.platforms.tensorflow.library import TensorFlow
from pyserving.platforms.tensorflow.tensors import COPIED_BYTES, new_tensor


class FedTensor:
    """A ``TF_Tensor`` with a copy of an array's values, in use by one run at a time."""

    __slots__ = ("_dtype", "_memory", "_shape", "_tf", "_worth_keeping", "address")

    def __init__(self, tf: TensorFlow, array: Array) -> None:
        """Raises INVALID_ARGUMENT for an array that TensorFlow has no element type for."""
        self._tf = tf
        self.address = new_tensor(tf, array)
        self._dtype = array.dtype
        self._shape = array.shape
        self._memory: memoryview | None = None
        self._worth_keeping = 0 < array.nbytes <= COPIED_BYTES and not array.dtype.hasobject

    def refill(self, array: Array) -> bool:
        """Takes over the values of ``array`` if they are of the same type and shape; whether they are."""
        if array.shape != self._shape or array.dtype != self._dtype:
            return False
        if self._memory is None:
            memory = (ctypes.c_char * array.nbytes).from_address(self._tf.tensor_data(self.address))
            self._memory = memoryview(memory).cast("B")
        self._memory[:] = array.tobytes()  # as this copies it holds the GIL
        return True

    def released(self) -> Self | None:
        """To be called after a run: itself if it may be filled again, else None, and the tensor is deleted.

        TensorFlow may go on using what was fed, as the value of a variable, in a queue or as an output: then it holds
        a reference to the memory, which must not be written to. If nobody but us has one, nobody can get one.
        """
        tf = self._tf
        # "May it be moved": whether this is the only reference, and the memory TensorFlow's own. It moves nothing.
        if self._worth_keeping and tf.tensor_maybe_move(self.address):
            return self
        self.delete()
        return None

    def delete(self) -> None:
        self._tf.delete_tensor(self.address)
