"""Which of the versions that were found are aspired now, and what is to be said about the others."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from pyserving.sources.version_folders import Duplicate, VersionPath
from pyserving.sources.version_policy import Specific, VersionPolicy

logger = logging.getLogger("pyserving.sources")

_REPEAT_SECONDS = 60.0


def choose(
    policy: VersionPolicy, found: Mapping[int, VersionPath], is_ready: Callable[[VersionPath], bool]
) -> list[VersionPath]:
    """What the policy selects of the versions that are ready, in increasing order.

    Only versions that the policy would select are asked whether they are ready. In the place of one that is not comes
    the next.
    """
    available = dict(found)
    while True:
        chosen = [available[version] for version in policy.select(available)]
        held = [path for path in chosen if not is_ready(path)]
        if not held:
            return chosen
        for path in held:
            del available[path.version]


def complaints_about(
    name: str,
    base_path: str,
    policy: VersionPolicy,
    found: Mapping[int, VersionPath],
    duplicates: Sequence[Duplicate],
) -> set[str]:
    """What is odd about the versions under a base path, in the words of TensorFlow Serving."""
    complaints = {
        f"Duplicate version directories detected. Version {duplicate.version} will be loaded from "
        f"{duplicate.used}, {duplicate.ignored} will be ignored."
        for duplicate in duplicates
    }
    if isinstance(policy, Specific):
        complaints.update(
            f"Version {version} of servable {name}, which was requested to be served as a 'specific' version "
            "in the servable's version policy, was not found in the file system"
            for version in policy.versions - found.keys()
        )
    if not policy.select(found):
        complaints.add(
            f"No versions of servable {name} found under base path {base_path}. "
            "Did you forget to name your leaf directory as a number (eg. '/1/')?"
        )
    return complaints


class Complaints:
    """Logs a standing trouble when it begins, then once a minute at most."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}

    def now(self, texts: set[str], level: int) -> None:
        """These are the troubles there are now; all others are over."""
        now = time.monotonic()
        self._logged = {text: since for text, since in self._logged.items() if text in texts}
        for text in sorted(texts):
            if text not in self._logged or now - self._logged[text] >= _REPEAT_SECONDS:
                logger.log(level, "%s", text)
                self._logged[text] = now
