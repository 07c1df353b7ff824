"""What holds for all TensorFlow Lite models of a server."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TFLiteOptions:
    """How many interpreters a model may use, and what its inputs and outputs are called."""

    num_pools: int = 0
    """0: one per CPU."""
    num_interpreters_per_pool: int = 1
    num_threads: int = 1
    """Threads that share one operation, for each interpreter."""
    tensor_names: bool = False
    """Call inputs and outputs after the model's tensors, even where the file has the converter's signatures.

    TensorFlow Serving knows no others but those in the file's metadata, so its clients use these names.
    """

    @property
    def num_interpreters(self) -> int:
        """Runs of one model that can go on at the same time."""
        return max(1, self.num_pools or os.cpu_count() or 1) * max(1, self.num_interpreters_per_pool)
