"""Which requests are recorded, and what a record says: a ``PredictionLog``, as warmup files hold them too."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import partial

from pyserving.api.models import DEFAULT_SIGNATURE
from pyserving.core.servable import ServableId
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig
from pyserving.wire.tensor_proto import varint

RequestAndResponse = tuple[bytes, bytes]
"""Both serialized."""

Offer = Callable[[str, bytes], None]
"""Takes the prefix of the files to write to, and a record; returns at once."""

_MAX_CACHED_METADATA = 1024

logger = logging.getLogger("pyserving.api")


class LogType(Enum):
    """The kinds of PredictionLog: the tag of their field."""

    CLASSIFY = b"\x12"
    REGRESS = b"\x1a"
    MULTI_INFERENCE = b"\x22"
    PREDICT = b"\x32"
    PREDICT_STREAMED = b"\x3a"


class ModelLog:
    """Records a sample of the requests of one model that were answered.

    Records are made where requests are answered, for it takes some microseconds: a thread that made them would hold
    up more than that each time it took the interpreter's lock. Hence they are put together by hand.
    """

    __slots__ = ("_metadata_cache", "_offer", "_prefix", "_rate", "_sampling", "_tags")

    def __init__(self, config: messages.LoggingConfig, tags: Sequence[str], offer: Offer) -> None:
        """``tags``: those of the graph that was loaded."""
        self._prefix: str = config.log_collector_config.filename_prefix
        self._sampling = config.sampling_config
        self._rate: float = self._sampling.sampling_rate
        self._tags = tags
        self._offer = offer
        self._metadata_cache: dict[tuple[ServableId, str], bytes] = {}

    def add(
        self,
        kind: LogType,
        servable: ServableId,
        signature_name: str,
        messages_of: Callable[[], RequestAndResponse],
    ) -> None:
        """Decides whether this request is one of the sample, and if so offers its record. Raises nothing.

        ``signature_name`` is empty where the default one answered; of a MultiInference no name is recorded.
        """
        if random.random() >= self._rate:
            return
        try:
            request, response = messages_of()
        except Exception:
            logger.exception("A request to %s could not be logged", servable)
            return
        self._record(kind, servable, signature_name, request, [response])

    def stream(self, servable: ServableId, signature_name: str) -> "StreamLog | None":
        """The log of a request whose answer comes in pieces, if it is one of the sample."""
        if random.random() >= self._rate:
            return None
        return StreamLog(servable, partial(self._record, LogType.PREDICT_STREAMED, servable, signature_name))

    def _record(
        self, kind: LogType, servable: ServableId, signature_name: str, request: bytes, responses: Sequence[bytes]
    ) -> None:
        name = "" if kind is LogType.MULTI_INFERENCE else signature_name or DEFAULT_SIGNATURE
        metadata = self._metadata(servable, name) + b"\x20" + varint(int(time.time()))  # timestamp_secs = 4
        log = [b"\x0a" + varint(len(request)), request]
        for response in responses:
            log += [b"\x12" + varint(len(response)), response]
        head = (b"\x0a" + varint(len(metadata)), metadata, kind.value + varint(sum(map(len, log))))
        self._offer(self._prefix, b"".join((*head, *log)))

    def _metadata(self, servable: ServableId, signature_name: str) -> bytes:
        """The LogMetadata, but for the time."""
        cached = self._metadata_cache.get((servable, signature_name))
        if cached is None:
            metadata = messages.LogMetadata(sampling_config=self._sampling, saved_model_tags=self._tags)
            metadata.model_spec.name = servable.name
            metadata.model_spec.version.value = servable.version
            metadata.model_spec.signature_name = signature_name
            cached = metadata.SerializeToString()
            if len(self._metadata_cache) >= _MAX_CACHED_METADATA:  # versions come and go: start over
                self._metadata_cache.clear()
            self._metadata_cache[servable, signature_name] = cached
        return cached


class StreamLog:
    """Collects the pieces of one answer."""

    def __init__(self, servable: ServableId, record: Callable[[bytes, Sequence[bytes]], None]) -> None:
        self._servable = servable
        self._record = record
        self._request = b""
        self._responses: list[bytes] = []

    def add(self, messages_of: Callable[[], RequestAndResponse]) -> None:
        """A piece, with the request. Raises nothing."""
        try:
            self._request, response = messages_of()
            self._responses.append(response)
        except Exception:
            logger.exception("A request to %s could not be logged", self._servable)

    def end(self) -> None:
        """The answer was given to its end."""
        if self._responses:
            self._record(self._request, self._responses)


def model_logs(models: Iterable[ModelConfig], tags: Sequence[str], offer: Offer) -> dict[str, ModelLog]:
    """The logs of those models that are to be logged, by name."""
    return {
        model.name: ModelLog(model.logging_config, tags, offer)
        for model in models
        if model.logging_config is not None and model.logging_config.sampling_config.sampling_rate > 0
    }
