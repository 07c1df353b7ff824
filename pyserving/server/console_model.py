"""What the console shows of one model: its versions, where its requests go, how it came into memory."""

from collections.abc import Callable, Mapping

from pyserving.api.rest import Engines
from pyserving.core.state import ServableState
from pyserving.server.directory import Directory
from pyserving.server.residency import stays_of
from pyserving.server.rollout_rules import gate_rules, traffic_rules
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_policy import All, Latest, Specific

Json = dict[str, object]


class ConsoleModels:
    """All models of a Directory, as JSON."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        engines: Engines,
        rollout_report: Callable[[str], Mapping[str, object]],
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._engines = engines
        self._rollout_report = rollout_report

    def to_json(self) -> list[Json]:
        models = self._directory.models
        stays = stays_of(self._settings, models)
        return [
            self._model(model) | {"lazy": stays[model.name].lazy, "pinned": stays[model.name].pinned}
            for model in models
        ]

    def _model(self, model: ModelConfig) -> Json:
        """``default``: the version that requests get which name none; ``held``: it is that whatever comes."""
        directory, name = self._directory, model.name
        return {
            "name": name,
            "base_path": model.base_path,
            "platform": model.platform,
            "policy": _policy(model),
            "labels": directory.labels.of(name),
            "default": directory.serving.default(name),
            "held": name in directory.defaults,
            "manual": gate_rules(model.options.gate).manual,
            "rollout": self._rollout_report(name),
            "traffic": self._traffic(model),
            "versions": [self._version(state) for state in directory.monitor.states(name)],
        }

    def _traffic(self, model: ModelConfig) -> Json:
        """The shares of the targets of a split, and the fraction of requests that are copied."""
        rules = traffic_rules(model.options.traffic)
        labels = self._directory.labels.of(model.name)
        total = sum(share.weight for share in rules.shares)
        shares: list[Json] = []
        for share in rules.shares:
            version = share.version if share.label is None else labels.get(share.label)
            if share.version is None and share.label is None:
                version = self._directory.serving.default(model.name)
            shares.append({"target": share.target, "version": version, "share": share.weight / total})
        traffic: Json = {"shares": shares, "key_header": rules.key_header}
        return traffic if rules.mirror is None else traffic | {"copied": rules.mirror.fraction}

    def _version(self, state: ServableState) -> Json:
        version: Json = {"version": state.id.version, "state": state.state.name, "since": state.when}
        if state.dormant:
            version["dormant"] = True
        if state.error:
            version["error"] = {"code": state.error.code.name, "message": state.error.message}
        if engines := self._engines(state.id):
            version["engines"] = engines
        return version


def _policy(model: ModelConfig) -> str:
    match model.version_policy:
        case All():
            return "all versions"
        case Specific(versions):
            return f"versions {', '.join(map(str, sorted(versions)))}"
        case Latest(1 | 0):
            return "latest version"
        case Latest(count):
            return f"latest {count} versions"
