"""Which version answers a request that names none: shares of a model's traffic, by weight."""

import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from pyserving.core.errors import ServingError
from pyserving.core.handle import ServableHandle
from pyserving.core.labels import VersionLabels
from pyserving.core.serving_map import ServingMap

DEFAULT_KEY_HEADER = "x-routing-key"

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
"""Of an HTTP request, or the metadata of a call; names in lower case."""

logger = logging.getLogger("pyserving.api")


@dataclass(frozen=True, slots=True)
class Share:
    """What part of the traffic a target gets. With neither version nor label the target is the default version."""

    weight: float
    version: int | None = None
    label: str | None = None

    @property
    def target(self) -> str:
        if self.version is not None:
            return f"version {self.version}"
        return "the default version" if self.label is None else f"label {self.label}"


class Split:
    """Divides the requests of one model that name neither version nor label.

    Requests with the same key go to the same target. Which one is drawn by weighted rendezvous hashing (each target
    draws a number from its hash with the key; the highest wins), as it depends on nothing but key and weights: all
    servers agree, and when a weight grows, or a target is not there, only as many keys move as must. Requests without a
    key are divided by chance.
    """

    def __init__(
        self, name: str, shares: Sequence[Share], key_header: str, serving: ServingMap, labels: VersionLabels
    ) -> None:
        """``shares``: with weights above 0. ``key_header``: in lower case."""
        self._name = name
        self._key_header = key_header
        self._serving = serving
        self._labels = labels
        self._targets = [(share, f"{name}\0{share.target}\0".encode()) for share in shares]
        self._missing: set[Share] = set()

    def acquire(self, headers: Headers) -> ServableHandle:
        """A handle on the version that this request is for. The share of a target that is not there goes to the others.

        Raises NOT_FOUND where not even the default version is available.
        """
        key = self._key(headers)
        draws = [(_draw(share.weight, salt, key), number) for number, (share, salt) in enumerate(self._targets)]
        for _, number in sorted(draws, reverse=True):
            share = self._targets[number][0]
            if handle := self._acquire(share):
                return handle
        return self._serving.acquire(self._name)

    def _acquire(self, share: Share) -> ServableHandle | None:
        try:
            version = share.version if share.label is None else self._labels.resolve(self._name, share.label)
            handle = self._serving.acquire(self._name, version)
        except ServingError:
            if share not in self._missing:
                self._missing.add(share)
                logger.warning(
                    "Model %s: %s is not available; its share of the traffic goes to the others",
                    self._name,
                    share.target,
                )
            return None
        if share in self._missing:
            self._missing.discard(share)
            logger.info("Model %s: %s is available and gets its share of the traffic", self._name, share.target)
        return handle

    def _key(self, headers: Headers) -> str:
        if isinstance(headers, Mapping):
            return headers.get(self._key_header, "")
        return next((value for name, value in headers if name == self._key_header), "")


def _draw(weight: float, salt: bytes, key: str) -> float:
    if key:
        number = int.from_bytes(blake2b(salt + key.encode(errors="replace"), digest_size=8).digest()) >> 11
        uniform = (number + 0.5) / (1 << 53)
    else:
        uniform = 1.0 - random.random()
    # The largest of exponential variables, each times its weight: a target wins in proportion to its weight.
    return -weight / math.log(uniform) if uniform < 1.0 else math.inf
