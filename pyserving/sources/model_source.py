"""Where the versions of configured models come from: each model from the source that its config names."""

from collections.abc import Callable, Mapping, Sequence

from pyserving.core.errors import ServingError, invalid_argument
from pyserving.sources.base_path import check_readable, is_object_store
from pyserving.sources.file_system import FileSystemSource, MonitoredServable, OnVersions
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.object_store.cache import ModelCache
from pyserving.sources.object_store.source import ObjectStoreSource, OnState
from pyserving.sources.push import PushSource
from pyserving.sources.version_folders import VersionPath


def check_sources(models: Sequence[ModelConfig]) -> None:
    """Raises INVALID_ARGUMENT for a model that cannot be watched: it needs a package that is missing, or it is to be
    pushed from an object store, or is unversioned in one."""
    for model in models:
        if (model.is_pushed or model.is_unversioned) and is_object_store(model.base_path):
            source = "PUSH" if model.is_pushed else "UNVERSIONED"
            raise invalid_argument(
                f"Expected model {model.name}, whose source is {source}, to have its base path on this machine; got "
                f"{model.base_path}"
            )
        try:
            check_readable(model.base_path)
        except ServingError as error:
            raise invalid_argument(f"Model {model.name}: {error.message}") from None


class ModelSource:
    """The sources of all models as one. ``on_versions`` is called from several threads, for one model never twice at
    a time, and must not call back."""

    def __init__(
        self,
        models: Sequence[ModelConfig],
        on_versions: OnVersions,
        cache: ModelCache,
        *,
        on_state: OnState,
        in_use: Callable[[str], set[int]],
        poll_wait_seconds: float,
        bucket_poll_wait_seconds: float,
    ) -> None:
        """See FileSystemSource and ObjectStoreSource. Raises INVALID_ARGUMENT."""
        check_sources(models)
        self._on_versions = on_versions
        self._owners = _owners(models)
        folders, buckets, pushed = _divided(models)
        self._folders = FileSystemSource(folders, self._from("folders"), poll_wait_seconds=poll_wait_seconds)
        self._buckets = ObjectStoreSource(
            buckets,
            self._from("buckets"),
            cache,
            on_state=on_state,
            in_use=in_use,
            poll_wait_seconds=bucket_poll_wait_seconds,
        )
        self._pushed = PushSource(pushed, self._from("pushed"))

    @property
    def errors(self) -> dict[str, ServingError]:
        """By model, why its base path could not be read at the last look."""
        return {**self._folders.errors, **self._buckets.errors}

    def may_find_more(self, model: ModelConfig) -> bool:
        """Whether versions may come that are there now: they are being written still, or fetched."""
        return is_object_store(model.base_path) or self._folders.is_settling(model.name)

    def start(self) -> None:
        """Looks at folders, and begins to look at object stores."""
        self._folders.start()
        self._buckets.start()
        self._pushed.start()

    def stop(self) -> None:
        """Returns once no further callback will come."""
        self._buckets.stop()
        self._pushed.stop()
        self._folders.stop()

    def update(self, models: Sequence[ModelConfig]) -> None:
        """Watches exactly these from now on; returns when what is new was looked at."""
        self._owners = _owners(models)
        folders, buckets, pushed = _divided(models)
        self._pushed.update(pushed)
        self._folders.update(folders)
        self._buckets.update(buckets)

    def set_aspired(self, name: str, versions: Mapping[int, str]) -> list[VersionPath]:
        """See ``PushSource.set_aspired``."""
        return self._pushed.set_aspired(name, versions)

    def at_hand(self, model: ModelConfig) -> Mapping[int, VersionPath]:
        """The versions under its base path, or of them those in the cache; none where they cannot be listed."""
        try:
            if is_object_store(model.base_path):
                return self._buckets.cached(model.base_path)
            return _monitored(model).list_versions()[0]
        except (OSError, ServingError):
            return {}

    def _from(self, owner: str) -> OnVersions:
        def pass_on(name: str, versions: Sequence[VersionPath]) -> None:
            # A source that lost a model to another has no more say: its versions stay until the other offers some.
            if self._owners.get(name, owner) == owner:
                self._on_versions(name, versions)

        return pass_on


def _owner(model: ModelConfig) -> str:
    if model.is_pushed:
        return "pushed"
    return "buckets" if is_object_store(model.base_path) else "folders"


def _owners(models: Sequence[ModelConfig]) -> dict[str, str]:
    return {model.name: _owner(model) for model in models}


def _divided(models: Sequence[ModelConfig]) -> tuple[dict[str, MonitoredServable], ...]:
    return tuple(
        {model.name: _monitored(model) for model in models if _owner(model) == owner}
        for owner in ("folders", "buckets", "pushed")
    )


def _monitored(model: ModelConfig) -> MonitoredServable:
    return MonitoredServable(model.base_path, model.version_policy, model.is_unversioned)
