"""Has a version folder arrived whole, or is it still being copied?

Nothing marks a finished copy, so the files themselves must tell:

- A folder *looks whole* when it has a model file, and each shard of its variables that the shards' own names announce.
- A folder is *at rest* when nothing in it changed for two seconds, by the files' time stamps. The time of the last
  change of state (ctime) counts too, because copiers set the modification time back. A rename does not touch what is
  inside, so a folder that was prepared elsewhere and moved in is at rest at once.
- A folder is *quiet* when it is the same (names, sizes, stamps) at two polls, one after the other. This does not
  ask any clock, and so it holds where the clocks of a file server and of this machine disagree.

A folder that looks whole and is at rest is ready at once. One that looks whole and is not at rest is ready once it is
quiet: one poll after the last change. One that does not look whole (it is empty, it lacks files, it is of an
unknown kind) gets ten quiet polls: a copier may pause, but a folder that will never be whole must be tried, so that its
error is seen. What was there at the very first look is not asked to look whole. And after 900 polls of unrest a
folder is tried as it is: somebody may keep a log file in it.
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

_REST_NS = 2_000_000_000
_QUIET_POLLS_WHOLE = 1
_QUIET_POLLS_NOT_WHOLE = 10
_PATIENCE_POLLS = 900

# With the file that has its weights, where it cannot do without.
_MODEL_FILES = {
    **dict.fromkeys(("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb", "model.tflite", "model.onnx"), ""),
    "model.py": "",
    "model.xml": "model.bin",
}
_SHARD = re.compile(r"variables/(.+)\.data-[0-9]{5}-of-([0-9]{5})")


@dataclass(frozen=True, slots=True)
class FolderContents:
    """What stat shows of a folder. Equal when nothing was changed in between."""

    entries: dict[str, tuple[int | str, ...]]
    """Relative path, with "/", to (size, mtime, ctime), times in ns; of what cannot be read, (errno,)."""
    newest_ns: int
    """The latest change of anything inside, ns since the epoch."""

    def looks_whole(self) -> bool:
        if not any(
            name in self.entries and (weights in self.entries or not weights) for name, weights in _MODEL_FILES.items()
        ):
            return False
        shards: dict[tuple[str, str], int] = {}
        for path in self.entries:
            if shard := _SHARD.fullmatch(path):
                shards[shard[1], shard[2]] = shards.get((shard[1], shard[2]), 0) + 1
        return all(
            count == int(total) and f"variables/{prefix}.index" in self.entries
            for (prefix, total), count in shards.items()
        )

    def is_at_rest(self) -> bool:
        return self.newest_ns < time.time_ns() - _REST_NS


def look_into(folder: str) -> FolderContents:
    """What the folder holds now. Raises nothing: what cannot be read is part of the answer."""
    entries: dict[str, tuple[int | str, ...]] = {}
    try:
        # Not the folder's own ctime: a rename changes it, and a folder that was renamed into place is complete.
        newest = os.stat(folder).st_mtime_ns
    except OSError as error:
        return FolderContents({".": (error.errno or 0,)}, 0)
    entries["."] = (newest,)
    prefixes = [""]
    while prefixes:
        prefix = prefixes.pop()
        try:
            with os.scandir(os.path.join(folder, prefix)) as children:
                for child in children:
                    path = prefix + child.name
                    try:
                        stamp = child.stat()
                    except OSError as error:
                        entries[path] = (error.errno or 0,)
                        continue
                    entries[path] = (stamp.st_size, stamp.st_mtime_ns, stamp.st_ctime_ns)
                    newest = max(newest, stamp.st_mtime_ns, stamp.st_ctime_ns)
                    # Links to folders are not followed: they may lead round in a circle.
                    if child.is_dir(follow_symlinks=False):
                        prefixes.append(path + "/")
        except OSError as error:
            entries[prefix + "."] = (error.errno or 0,)
    return FolderContents(entries, newest)


class SettlingFolder:
    """A version folder that is not yet offered."""

    def __init__(self, path: str, *, at_first_look: bool, look: Callable[[str], FolderContents] = look_into) -> None:
        """``at_first_look``: it was there when its base path was read for the first time. ``look`` tells what is
        in it now."""
        self._path = path
        self._look = look
        self._at_first_look = at_first_look
        self._last: FolderContents | None = None
        self._quiet_polls = 0
        self._polls = 0

    def is_ready(self) -> bool:
        """Looks once more. To be called once a poll."""
        contents = self._look(self._path)
        self._polls += 1
        self._quiet_polls = self._quiet_polls + 1 if contents == self._last else 0
        self._last = contents
        if self._polls >= _PATIENCE_POLLS:
            return True
        if self._at_first_look or contents.looks_whole():
            return contents.is_at_rest() or self._quiet_polls >= _QUIET_POLLS_WHOLE
        return self._quiet_polls >= _QUIET_POLLS_NOT_WHOLE
