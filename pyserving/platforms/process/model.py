"""A model that is run by a process of its own."""

import base64
import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.model import Array, Outlet, Signature, StreamCancelled
from pyserving.platforms.process.frames import Message
from pyserving.platforms.process.process import ModelProcess
from pyserving.platforms.process.signatures import from_json
from pyserving.platforms.process.spec import ProcessSpec
from pyserving.protos.messages import SignatureDef

logger = logging.getLogger("pyserving.process")

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_SETTLED = 60.0
"""A process that has lived so long did not end for the reason that the one before it did."""
_LAST_CHANCE = 0.5
"""Seconds beyond its time limit that a run gets to end by itself before its process is killed."""


class ProcessModel:
    """A ``StreamingModel``. While its process is not there, requests fail with UNAVAILABLE; it is started again, at
    once the first time, then after waits that double."""

    def __init__(self, spec: ProcessSpec) -> None:
        """Starts the process and waits for the model to be loaded. Raises ServingError."""
        self._spec = spec
        self.restarts = 0
        """How often a process has ended that should not have, and another one was started."""
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._ready = False
        self._wait = 0.0
        self._started = self._ended_at = time.monotonic()
        self._process = ModelProcess(spec, self._ended)
        loaded = self._process.loaded()
        self.signatures: Mapping[str, Signature] = _signatures(loaded)
        self.signature_defs: Mapping[str, SignatureDef] = {
            name: SignatureDef.FromString(base64.b64decode(text))
            for name, text in loaded.fields["signature_defs"].items()
        }
        self.time_limit: float | None = loaded.fields["time_limit"]
        self.concurrency: int = loaded.fields["concurrency"]
        self.threads = ThreadPoolExecutor(self.concurrency, thread_name_prefix=f"process-{spec.servable.name}")
        self._ready = True
        logger.info("%s runs in process %d", spec.servable, self._process.pid)
        if self._process.end:
            threading.Thread(target=self._ended, args=(self._process,), daemon=True).start()

    @property
    def is_up(self) -> bool:
        """Whether its process is there, and can answer."""
        return self._ready

    @property
    def pid(self) -> int:
        """Of the process there is now, or was last."""
        return self._process.pid

    @property
    def down_seconds(self) -> float:
        """For how long its process has not been there; 0 while it is."""
        return 0.0 if self._ready else time.monotonic() - self._ended_at

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,  # noqa: ARG002 - its runs go to threads of its own
    ) -> list[Array]:
        """See ``Model.run``. A run that outlasts the time limit costs the process its life, ``timeout`` does not."""
        process = self._process_now()
        fields = {"signature": signature.name, "outputs": outputs, "timeout": timeout}
        number = process.begin("run", fields, inputs)
        try:
            results = self._reply(process, number).tensors
        finally:
            process.finish(number)
        return [results[name] for name in outputs]

    def stream(self, signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[str], outlet: Outlet) -> None:
        """See ``StreamingModel.stream``."""
        process = self._process_now()
        number = process.begin("stream", {"signature": signature.name, "outputs": outputs}, inputs)
        outlet.on_cancel(lambda: process.interrupt(number, _CANCELLED))
        cancelled = False
        try:
            while (message := self._reply(process, number)).kind != "done":
                if message is _CANCELLED and not cancelled:
                    cancelled = True
                    process.send(Message("cancel", number))
                elif message.kind == "piece" and not cancelled:
                    try:
                        outlet.put([message.tensors[name] for name in outputs])
                        process.send(Message("took", number))
                    except StreamCancelled:
                        continue  # the message that says so is there, or on its way
            if cancelled:
                raise StreamCancelled
        finally:
            process.finish(number)

    def close(self) -> None:
        """Ends the process. No run may be going on."""
        self._closed.set()
        self.threads.shutdown(wait=False, cancel_futures=True)
        self._process.close()

    def _process_now(self) -> ModelProcess:
        process = self._process
        if not self._ready:
            raise process.gone()
        return process

    def _reply(self, process: ModelProcess, number: int) -> Message:
        limit = self.time_limit
        try:
            return process.reply(number, None if limit is None else limit + _LAST_CHANCE)
        except queue.Empty:
            logger.warning("A run of %s took longer than %g s: its process is killed", self._spec.servable, limit)
            process.kill()
            raise ServingError(
                Code.DEADLINE_EXCEEDED, f"the model took longer than its time limit of {limit:g} s"
            ) from None

    def _ended(self, process: ModelProcess) -> None:
        """On the thread that read from the process."""
        if not self._lost(process):
            return
        if time.monotonic() - self._started > _SETTLED:
            self._wait = 0.0
        while not self._closed.is_set():
            logger.error(
                "The process of %s %s; it is started again in %g s", self._spec.servable, self._process.end, self._wait
            )
            if self._closed.wait(self._wait):
                return
            self._wait = min(max(2 * self._wait, _FIRST_WAIT), _LONGEST_WAIT)
            if self._restart():
                return

    def _restart(self) -> bool:
        self._started = time.monotonic()
        self.restarts += 1
        try:
            self._process = process = ModelProcess(self._spec, self._ended)
            if _signatures(process.loaded()).keys() != self.signatures.keys():
                process.kill()
                raise ServingError(Code.FAILED_PRECONDITION, "its signatures are not those that it had before")
        except (ServingError, OSError) as error:
            logger.error("%s could not be started again: %s", self._spec.servable, error)
            return False
        if self._closed.is_set():
            process.close()
            return True
        self._ready = True
        logger.info("%s runs again, in process %d", self._spec.servable, process.pid)
        return not (process.end and self._lost(process))

    def _lost(self, process: ModelProcess) -> bool:
        """Whether the caller has to replace ``process``: it is gone, was ready, and nobody else is at it."""
        with self._lock:
            if process is not self._process or not self._ready:
                return False
            self._ready = False
            self._ended_at = time.monotonic()
            return True


_CANCELLED = Message("cancelled", 0)


def _signatures(loaded: Message) -> dict[str, Signature]:
    signatures = {}
    for value in loaded.fields["signatures"]:
        prefix = f"{value['name']}/"
        defaults = {
            name.removeprefix(prefix): array for name, array in loaded.tensors.items() if name.startswith(prefix)
        }
        signatures[value["name"]] = from_json(value, defaults)
    return signatures
