"""Names for versions, such as ``stable`` and ``canary``."""

from collections.abc import Callable, Mapping

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.servable import ServableId


class VersionLabels:
    """Which version each label of each model points to. Reading needs no lock: an update swaps the whole."""

    def __init__(self) -> None:
        self._versions: Mapping[str, Mapping[str, int]] = {}

    @property
    def all(self) -> Mapping[str, Mapping[str, int]]:
        """Versions by label, by model name."""
        return self._versions

    def resolve(self, name: str, label: str) -> int:
        """The version that a label of model ``name`` points to. Raises INVALID_ARGUMENT for an unknown label."""
        version = self.of(name).get(label)
        if version is None:
            raise invalid_argument(f"Unrecognized servable version label: {label}")
        return version

    def of(self, name: str) -> Mapping[str, int]:
        """All labels of a model, with their versions."""
        return self._versions.get(name, {})

    def update(
        self,
        labels: Mapping[str, Mapping[str, int]],
        is_available: Callable[[ServableId], bool],
        *,
        allow_unavailable: bool = False,
    ) -> None:
        """Makes ``labels`` (model name → label → version) all labels there are, or changes nothing.

        A label may point only to a version that is available; with ``allow_unavailable`` to any, unless that
        moves an existing label. Raises FAILED_PRECONDITION.
        """
        for name, versions in labels.items():
            for label, version in versions.items():
                moves = self.of(name).get(label, version) != version
                if not is_available(ServableId(name, version)) and (moves or not allow_unavailable):
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {name}, "
                        "which is not currently available for inference",
                    )
        self._versions = {name: dict(versions) for name, versions in labels.items()}
