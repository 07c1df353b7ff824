"""What a supervisor and its workers tell and ask each other."""

import copyreg
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState
from pyserving.protos import messages
from pyserving.server.folder import Folder
from pyserving.server.gate_report import GateReport, GateReports
from pyserving.server.rollout_rules import GateRules
from pyserving.sources.model_config import ModelConfig
from pyserving.validation.report import Tally
from pyserving.validation.tolerance import Tolerance

# To workers


@dataclass(frozen=True, slots=True)
class Configure:
    """These are all models, labels (model name → label → version), directed default versions and reports of the gate
    from now on."""

    models: Sequence[ModelConfig]
    labels: Mapping[str, Mapping[str, int]]
    defaults: Mapping[str, int]
    gate_reports: GateReports


@dataclass(frozen=True, slots=True)
class Examined:
    """The gate has found so much of a version."""

    id: ServableId
    report: GateReport


@dataclass(frozen=True, slots=True)
class Tell:
    """Versions have entered these states, in the whole server."""

    states: Sequence[ServableState]


@dataclass(frozen=True, slots=True)
class Load:
    """Load a version; requests do not see it yet. The answer is its signatures (``Mapping[str, Signature]``)."""

    id: ServableId
    folder: Folder


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
class CheckAnswers:
    """See ``checks.check_answers``, of a version that is loaded. The answer is how many were compared."""

    id: ServableId
    rules: GateRules


@dataclass(frozen=True, slots=True)
class CheckLatency:
    """See ``checks.check_latency``. The answer is the medians."""

    id: ServableId
    rules: GateRules


@dataclass(frozen=True, slots=True)
class GiveUpCheck:
    """Nobody waits for a check of the version any more."""

    id: ServableId


@dataclass(frozen=True, slots=True)
class BeginMirror:
    """Send copies of requests to a version that is loaded and not served, and tell what comes of them."""

    id: ServableId
    tolerance: Tolerance


@dataclass(frozen=True, slots=True)
class EndMirror:
    """Send no more of them."""

    id: ServableId


@dataclass(frozen=True, slots=True)
class Accept:
    """Take connections."""


@dataclass(frozen=True, slots=True)
class CollectOwn:
    """The answer is the worker's metrics (``list[Family]``)."""


@dataclass(frozen=True, slots=True)
class Retire:
    """Nothing is ready any more; requests are answered as before."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Take no new connections and requests, end those there are, and exit."""


# To the supervisor


@dataclass(frozen=True, slots=True)
class Reload:
    """Make a ModelServerConfig, serialized, true."""

    config: bytes


@dataclass(frozen=True, slots=True)
class Promote:
    """Make a version the default one. The answer is it, and the one before."""

    name: str
    version: int | None
    label: str | None


@dataclass(frozen=True, slots=True)
class Rollback:
    """Make the version before the default one. The answer is it, and the one before."""

    name: str


@dataclass(frozen=True, slots=True)
class SetAspired:
    """These are all versions of a model that there should be: folders by number. The answer is where they are."""

    name: str
    versions: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Compared:
    """A copy of a request was answered by this version, and the answer compared."""

    id: ServableId
    tally: Tally


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
