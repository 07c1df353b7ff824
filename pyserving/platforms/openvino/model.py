"""One loaded model that OpenVINO computes."""

import os
import time
from collections.abc import Mapping, Sequence

from pyserving.platforms.model import Array, Signature
from pyserving.platforms.openvino.ir import FILE_NAME, compile_ir
from pyserving.platforms.openvino.runtime import openvino
from pyserving.platforms.openvino.saved_model import compile_saved_model
from pyserving.platforms.priming import PRIMING_SECONDS, prime
from pyserving.platforms.signature_def import signature_defs
from pyserving.protos.messages import SignatureDef


class OpenVinoModel:
    """A ``Model``. Each of its signatures is compiled on its own."""

    def __init__(self, folder: str, tags: Sequence[str], num_threads: int) -> None:
        """Loads ``model.xml`` in ``folder`` or, where there is none, the SavedModel's graph with these tags.

        ``num_threads`` share one operation; 0: as many as there are cores. Raises ServingError.
        """
        openvino()
        self.signature_defs: Mapping[str, SignatureDef]
        if os.path.isfile(os.path.join(folder, FILE_NAME)):
            signature, function = compile_ir(folder, num_threads)
            self.signatures: Mapping[str, Signature] = {signature.name: signature}
            self.signature_defs = signature_defs(self.signatures)
            self._functions = {signature.name: function}
        else:
            compiled = compile_saved_model(folder, tags, num_threads)
            self.signatures = {name: signature for name, (signature, _, _) in compiled.items()}
            self.signature_defs = {name: signature_def for name, (_, signature_def, _) in compiled.items()}
            self._functions = {name: function for name, (_, _, function) in compiled.items()}
        deadline = time.monotonic() + PRIMING_SECONDS
        for signature in self.signatures.values():
            prime(self, signature, deadline)

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,
    ) -> list[Array]:
        """See ``Model.run``. A run that has begun cannot be ended."""
        return self._functions[signature.name].run(inputs, outputs, timeout=timeout, inline=inline)

    def close(self) -> None:
        """Gives back what was compiled. No run may be going on."""
        for function in self._functions.values():
            function.close()
