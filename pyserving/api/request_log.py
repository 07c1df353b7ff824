"""Which requests are recorded, and what a record says: a ``PredictionLog``, as warmup files hold them too."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from pyserving.api.models import DEFAULT_SIGNATURE
from pyserving.core.servable import ServableId
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig
from pyserving.wire.tensor_proto import varint

RequestAndResponse = tuple[bytes, bytes]
"""Both serialized."""

Offer = Callable[[str, int, Callable[[], bytes]], None]
"""Takes the prefix of the files to write to, the number of bytes that wait in memory for it, and what makes the
record; returns at once. The record is made later, on another thread."""


class LogType(Enum):
    """The kinds of PredictionLog: the tag of their field."""

    CLASSIFY = b"\x12"
    REGRESS = b"\x1a"
    MULTI_INFERENCE = b"\x22"
    PREDICT = b"\x32"


class ModelLog:
    """Records a sample of the requests of one model that were answered."""

    __slots__ = ("_offer", "_prefix", "_rate", "_sampling", "_tags")

    def __init__(self, config: messages.LoggingConfig, tags: Sequence[str], offer: Offer) -> None:
        """``tags``: those of the graph that was loaded."""
        self._prefix: str = config.log_collector_config.filename_prefix
        self._sampling = config.sampling_config
        self._rate: float = self._sampling.sampling_rate
        self._tags = tags
        self._offer = offer

    def add(
        self,
        kind: LogType,
        servable: ServableId,
        signature_name: str,
        size: int,
        messages_of: Callable[[], RequestAndResponse],
    ) -> None:
        """Decides whether this request is one of the sample, and if so offers its record.

        ``signature_name`` is empty where the default one answered; ``size`` is what ``messages_of`` keeps in memory,
        in bytes.
        """
        if random.random() >= self._rate:
            return
        timestamp = int(time.time())

        def record() -> bytes:
            metadata = messages.LogMetadata(
                sampling_config=self._sampling, saved_model_tags=self._tags, timestamp_secs=timestamp
            )
            metadata.model_spec.name = servable.name
            metadata.model_spec.version.value = servable.version
            if kind is not LogType.MULTI_INFERENCE:
                metadata.model_spec.signature_name = signature_name or DEFAULT_SIGNATURE
            request, response = messages_of()
            log = _field(b"\x0a", request) + _field(b"\x12", response)
            return _field(b"\x0a", metadata.SerializeToString()) + _field(kind.value, log)

        self._offer(self._prefix, size, record)


def model_logs(models: Iterable[ModelConfig], tags: Sequence[str], offer: Offer) -> dict[str, ModelLog]:
    """The logs of those models that are to be logged, by name."""
    return {
        model.name: ModelLog(model.logging_config, tags, offer)
        for model in models
        if model.logging_config is not None and model.logging_config.sampling_config.sampling_rate > 0
    }


def _field(tag: bytes, value: bytes) -> bytes:
    return tag + varint(len(value)) + value
