"""The version folders under a base path: ``base_path/<integer>/``."""

import errno
import os
import re
from typing import NamedTuple

_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})")
_ASCII_BLANKS = " \t\n\v\f\r"
_INT64 = range(-(2**63), 2**63)


class VersionPath(NamedTuple):
    """A version and the folder it is in."""

    version: int
    path: str


class Duplicate(NamedTuple):
    """Two folders of one number."""

    version: int
    used: str
    ignored: str


def parse_version(name: str) -> int | None:
    """The version that a folder's name stands for, None if it stands for none.

    The rule is TensorFlow Serving's: a decimal int64, leading zeros, one sign and blanks around it allowed.
    """
    number = _INTEGER.fullmatch(name.strip(_ASCII_BLANKS))
    if number is None:
        return None
    version = int(number[1] + number[2])
    return version if version in _INT64 else None


def list_versions(base_path: str) -> tuple[dict[int, VersionPath], list[Duplicate]]:
    """The versions under a base path, by number, and the folders left out because another has their number.

    Of two folders of one number the one whose name sorts last is used. Only folders count, and symbolic links
    to folders. Raises OSError.
    """
    names = []
    with os.scandir(base_path) as entries:
        for entry in entries:
            if parse_version(entry.name) is not None and _is_folder(entry):
                names.append(entry.name)
    found: dict[int, VersionPath] = {}
    duplicates = []
    for name in sorted(names):
        version = parse_version(name)
        assert version is not None
        if version in found:
            duplicates.append(Duplicate(version, name, os.path.basename(found[version].path)))
        found[version] = VersionPath(version, os.path.join(base_path, name))
    return found, duplicates


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link that leads round in a circle is no folder. Any other error may pass, and a version must not be
        # unloaded for it.
        if error.errno == errno.ELOOP:
            return False
        raise
