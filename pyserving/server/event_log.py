"""The latest events in the lives of models and versions, kept in memory for people to look at."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyserving.core.state import ServableState
from pyserving.server.directory import Directory
from pyserving.sources.model_config import ModelConfig

_MOST = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened at ``when`` (seconds since the epoch). ``state`` is empty where the config changed."""

    when: float
    model: str
    version: int | None
    state: str
    text: str
    """What changed in the config, or the error with which a version ended."""


class EventLog:
    """Listens to a Directory. The latest 1,000 events are kept.

    A worker that takes the place of one that ended knows of what was before only the last state of each version.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._models: Mapping[str, ModelConfig] = {model.name: model for model in directory.models}
        self._labels: Mapping[str, Mapping[str, int]] = directory.labels.all
        self._events: deque[Event] = deque(maxlen=_MOST)
        directory.bus.subscribe(self._on_state)
        directory.subscribe(self._on_config)

    def after(self, when: float) -> Sequence[Event]:
        """The events later than ``when``, in the order in which they were heard of."""
        return [event for event in tuple(self._events) if event.when > when]

    def _on_state(self, state: ServableState) -> None:
        error = str(state.error) if state.error else ""
        self._events.append(Event(state.when, state.id.name, state.id.version, state.state.name, error))

    def _on_config(self) -> None:
        models = {model.name: model for model in self._directory.models}
        for name in self._models.keys() - models.keys():
            self._add(name, "model taken out of the config")
        for name, model in models.items():
            before = self._models.get(name)
            if before is None:
                self._add(name, f"model added, base path {model.base_path}")
            elif before != model:
                self._add(name, "config changed")
        self._models = models
        labels = self._directory.labels.all
        for name in {*labels, *self._labels}:
            now, then = labels.get(name, {}), self._labels.get(name, {})
            for label in sorted({*now, *then}):
                if now.get(label) != then.get(label):
                    self._add(name, f"label {label} → {now[label]}" if label in now else f"label {label} removed")
        self._labels = labels

    def _add(self, model: str, text: str) -> None:
        self._events.append(Event(time.time(), model, None, "", text))
