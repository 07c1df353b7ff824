"""Replays a version's recorded requests before it becomes available, so that no client meets a cold model."""

import asyncio
import logging
import os
from collections.abc import Coroutine, Iterable
from concurrent.futures import CancelledError
from threading import Event
from time import perf_counter
from typing import Any

from pyserving.api.prediction_methods import PredictionMethods
from pyserving.api.recorded import answer_recorded
from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle, ServedVersion
from pyserving.core.loader import Loader
from pyserving.core.resources import Resources
from pyserving.core.servable import Servable, ServableId
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.protos import messages
from pyserving.validation.samples import Method, read_logs

FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
"""Where a version folder has its records: a TFRecord file of PredictionLogs."""
MAX_RECORDS = 1000

logger = logging.getLogger("pyserving.server")


class Warmup:
    """Sends recorded requests the way that clients' requests take, one at a time, whatever version they name.

    Rules and texts are the real server's; its errors do not tell the record.
    """

    def __init__(self, prediction: PredictionMethods, metrics: ServingMetrics, *, iterations: int = 1) -> None:
        """To be called on the event loop that answers requests. ``iterations``: how often each record is replayed."""
        self._prediction = prediction
        self._metrics = metrics
        self._iterations = iterations
        self._loop = asyncio.get_running_loop()
        self._stopping = False

    def run(self, folder: str, handle: ServableHandle) -> None:
        """Replays the records in ``folder``, if it has any, and returns when all were answered.

        Not to be called on the event loop. Raises ServingError for the first record that cannot be read or answered.
        """
        path = os.path.join(folder, FILE)
        if not os.path.exists(path):
            logger.debug("%s has no warmup requests: there is no %s", handle.id, path)
            return
        start = perf_counter()
        status = "OK"
        count = 0
        try:
            for count, log in enumerate(read_logs(path, "warmup", MAX_RECORDS), 1):
                self._replay(log, handle, f"Warmup record {count} of {path}")
        except BaseException as error:
            status = str(error)
            raise
        finally:
            seconds = perf_counter() - start
            self._metrics.warmup_ended(folder, seconds, status)
        logger.info("%s is warm: %d records of %s replayed in %.0f ms", handle.id, count, path, seconds * 1e3)

    def stop(self) -> None:
        """Lets every warmup fail at its next request, with UNAVAILABLE."""
        self._stopping = True

    def _replay(self, log: messages.PredictionLog, handle: ServableHandle, record: str) -> None:
        for _ in range(self._iterations):
            if self._stopping:
                raise _stopping(record)
            request = self._request(log, handle, record)
            if request is None:
                return
            try:
                asyncio.run_coroutine_threadsafe(request, self._loop).result()
            except ServingError as error:
                raise ServingError(error.code, f"{record} failed: {error.message}") from None
            except CancelledError:
                raise _stopping(record) from None

    def _request(
        self, log: messages.PredictionLog, handle: ServableHandle, record: str
    ) -> Coroutine[Any, Any, None] | None:
        kind = log.WhichOneof("log_type")
        if kind == "session_run_log":
            number = log.DESCRIPTOR.fields_by_name["session_run_log"].number
            raise ServingError(Code.UNIMPLEMENTED, f"{record} failed: Unsupported log_type for warmup: {number}")
        if kind is None:
            logger.warning("%s is passed over: its log_type is not set", record)
            return None
        recorded = getattr(log, kind).request
        method = Method(kind)
        return self._answer(handle, method, recorded if method is Method.PREDICT_STREAMED else [recorded])

    async def _answer(self, handle: ServableHandle, method: Method, requests: Iterable[Any]) -> None:
        for request in requests:
            await answer_recorded(self._prediction, handle, method, request)


class WarmedLoader:
    """A ``Loader`` that loads by another one, then warms the model up. Where that fails, so does the load."""

    def __init__(self, loader: Loader, servable: ServableId, path: str, warmup: Warmup) -> None:
        """``path``: the version's folder."""
        self._loader = loader
        self._id = servable
        self._path = path
        self._warmup = warmup

    def estimate_resources(self) -> Resources:
        return self._loader.estimate_resources()

    def load(self) -> Servable:
        servable = self._loader.load()
        drained = Event()
        version = ServedVersion(self._id, servable, drained.set)
        try:
            with version.hold() as handle:  # type: ignore[union-attr]  # None only once it is closed
                self._warmup.run(self._path, handle)
        except BaseException:
            self._wait_for_runs(version, drained)
            self._loader.unload()
            raise
        self._wait_for_runs(version, drained)
        return servable

    def unload(self) -> None:
        self._loader.unload()

    def _wait_for_runs(self, version: ServedVersion, drained: Event) -> None:
        """A run may go on for a moment after its request was answered."""
        if not version.close():
            drained.wait()


def _stopping(record: str) -> ServingError:
    return ServingError(Code.UNAVAILABLE, f"{record} failed: the server is stopping")
