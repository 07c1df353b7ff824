"""What a supervisor and its workers tell and ask each other."""

import copyreg
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig

# To workers


@dataclass(frozen=True, slots=True)
class Configure:
    """These are all models and labels (model name → label → version) from now on."""

    models: Sequence[ModelConfig]
    labels: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Tell:
    """Versions have entered these states, in the whole server."""

    states: Sequence[ServableState]


@dataclass(frozen=True, slots=True)
class Load:
    """Load a version; requests do not see it yet. The answer is its signatures (``Mapping[str, Signature]``)."""

    id: ServableId
    path: str
    platform: str


@dataclass(frozen=True, slots=True)
class Serve:
    """Let requests see a version that is loaded."""

    id: ServableId


@dataclass(frozen=True, slots=True)
class Withdraw:
    """No new request may see the version."""

    id: ServableId


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload a version when the requests that use it have ended. Answered when it is gone."""

    id: ServableId


@dataclass(frozen=True, slots=True)
class Accept:
    """Take connections."""


@dataclass(frozen=True, slots=True)
class CollectOwn:
    """The answer is the worker's metrics (``list[Family]``)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Take no new connections and requests, end those there are, and exit."""


# To the supervisor


@dataclass(frozen=True, slots=True)
class Reload:
    """Make a ModelServerConfig, serialized, true."""

    config: bytes


@dataclass(frozen=True, slots=True)
class CollectAll:
    """The answer is the metrics of the whole server (``list[Family]``)."""


def _logging_config(config: messages.LoggingConfig) -> tuple[Callable[[bytes], messages.LoggingConfig], tuple[bytes]]:
    return messages.LoggingConfig.FromString, (config.SerializeToString(),)


def _model_options(options: messages.ModelOptions) -> tuple[Callable[[bytes], messages.ModelOptions], tuple[bytes]]:
    return messages.ModelOptions.FromString, (options.SerializeToString(),)


# A ModelConfig has them. Messages of a descriptor pool of its own cannot be found by their module and name.
copyreg.pickle(messages.LoggingConfig, _logging_config)
copyreg.pickle(messages.ModelOptions, _model_options)
