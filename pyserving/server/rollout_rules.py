"""What a model's config says of new versions and of its traffic, read and checked."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyserving.api.traffic import DEFAULT_KEY_HEADER, Share, Split
from pyserving.core.errors import ServingError, invalid_argument
from pyserving.protos import messages
from pyserving.server.directory import Directory
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.text_proto import read_text_proto
from pyserving.validation.tolerance import Tolerance, read_tolerance

GOLDEN_FILE = os.path.join("assets.extra", "pyserving_golden_requests")
"""Where a version folder has requests with the answers that are expected: a TFRecord file of PredictionLogs."""
RULES_FILE = os.path.join("assets.extra", "pyserving_gate.pbtxt")
"""Where it has GateOptions of its own: a tolerance for these, a latency budget."""
DEFAULT_RUNS = 20
DEFAULT_SHADOW_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class LatencyRule:
    """The median of so many runs has to be at most ``seconds``."""

    seconds: float
    runs: int


@dataclass(frozen=True, slots=True)
class ShadowRule:
    """See ``ShadowGate`` in pyserving.proto."""

    requests: int
    max_disagreement: float
    seconds: float


@dataclass(frozen=True, slots=True)
class GateRules:
    """What a version has to pass; by default nothing."""

    golden_requests: str = ""
    tolerance: Tolerance = field(default_factory=Tolerance)
    latency: LatencyRule | None = None
    shadow: ShadowRule | None = None
    manual: bool = False


@dataclass(frozen=True, slots=True)
class MirrorRule:
    """A share of the answered requests is sent to this version, or to that of this label, too."""

    version: int | None
    label: str | None
    fraction: float
    tolerance: Tolerance


@dataclass(frozen=True, slots=True)
class TrafficRules:
    """Where requests go that name neither version nor label."""

    shares: Sequence[Share]
    key_header: str
    mirror: MirrorRule | None
    default_version: int | None


def check_rules(models: Iterable[ModelConfig]) -> None:
    """Raises INVALID_ARGUMENT, which names the model, for what cannot be."""
    for model in models:
        try:
            gate_rules(model.options.gate)
            traffic_rules(model.options.traffic)
        except ServingError as error:
            raise ServingError(error.code, f"Model {model.name}: {error.message}") from None


def gate_rules(options: messages.GateOptions) -> GateRules:
    """Raises INVALID_ARGUMENT."""
    if options.golden_requests and not os.path.isabs(options.golden_requests):
        raise invalid_argument(f"Expected an absolute path of golden_requests; got {options.golden_requests}")
    return GateRules(
        options.golden_requests,
        read_tolerance(options.tolerance),
        _latency(options.latency) if options.HasField("latency") else None,
        _shadow(options.shadow) if options.HasField("shadow") else None,
        options.manual,
    )


def own_rules(folder: str) -> GateRules:
    """What the version in ``folder`` says of itself. Raises ServingError."""
    path = os.path.join(folder, RULES_FILE)
    if not os.path.exists(path):
        return GateRules()
    options = read_text_proto(path, messages.GateOptions)
    others = sorted({field.name for field, _ in options.ListFields()} - {"tolerance", "latency"})
    if others:
        raise invalid_argument(f"{path} may say tolerance and latency; {', '.join(others)} is for the server's config")
    return gate_rules(options)


def traffic_rules(options: messages.TrafficOptions) -> TrafficRules:
    """Raises INVALID_ARGUMENT."""
    if options.default_version < 0:
        raise invalid_argument(f"Expected a default_version above 0; got {options.default_version}")
    mirror = None
    if options.HasField("shadow"):
        shadow = options.shadow
        version, label = _target(shadow)
        if version is None and label is None:
            raise invalid_argument("Expected shadow to name a version or a label")
        fraction = _share("the fraction of shadow", shadow.fraction)
        mirror = MirrorRule(version, label, fraction, read_tolerance(shadow.tolerance))
    key_header = options.key_header.lower() or DEFAULT_KEY_HEADER
    return TrafficRules(_shares(options.split), key_header, mirror, options.default_version or None)


def splits(directory: Directory) -> dict[str, Split]:
    """Of the models whose traffic is divided, by name."""
    divided = {}
    for model in directory.models:
        rules = traffic_rules(model.options.traffic)
        if rules.shares:
            divided[model.name] = Split(model.name, rules.shares, rules.key_header, directory.serving, directory.labels)
    return divided


def _shares(split: Iterable[messages.TrafficShare]) -> list[Share]:
    shares: list[Share] = []
    for entry in split:
        if not 0 < entry.weight < math.inf:
            raise invalid_argument(f"Expected weights above 0 in split; got {entry.weight:g}")
        version, label = _target(entry)
        share = Share(entry.weight, version, label)
        if any(share.target == other.target for other in shares):
            raise invalid_argument(f"Expected each target of split once; got {share.target} more than once")
        shares.append(share)
    return shares


def _latency(options: messages.LatencyBudget) -> LatencyRule:
    if not 0 < options.median_ms < math.inf:
        raise invalid_argument(f"Expected a latency budget with a median_ms above 0; got {options.median_ms:g}")
    if options.runs < 0:
        raise invalid_argument(f"Expected a latency budget with 1 run or more; got {options.runs}")
    return LatencyRule(options.median_ms / 1e3, options.runs or DEFAULT_RUNS)


def _shadow(options: messages.ShadowGate) -> ShadowRule:
    if options.requests < 1:
        raise invalid_argument(f"Expected shadow to compare 1 request or more; got {options.requests}")
    if not 0 <= options.timeout_seconds < math.inf:
        raise invalid_argument(f"Expected a timeout_seconds above 0; got {options.timeout_seconds:g}")
    allowed = _share("max_disagreement", options.max_disagreement)
    return ShadowRule(options.requests, allowed, options.timeout_seconds or DEFAULT_SHADOW_SECONDS)


def _share(what: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise invalid_argument(f"Expected {what} to be from 0 to 1; got {value:g}")
    return value


def _target(message: Any) -> tuple[int | None, str | None]:
    """Version and label of a message that has both in a oneof ``target``."""
    match message.WhichOneof("target"):
        case "version":
            return message.version, None
        case "label":
            return None, message.label
        case _:
            return None, None
