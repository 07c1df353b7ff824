"""The file of API keys: one a line, as ``name role[,role] sha256:HEX [models=pattern[,pattern]]``.

It holds no token, only hashes: who can read it cannot use it. Empty lines and those that begin with ``#`` are passed
over.
"""

import hashlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Sequence

from pyserving.api.access import Key, Keys, Role
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.server.reloading import Reloading
from pyserving.sources.os_errors import serving_error

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_PATTERN = re.compile(r"[^\s,]+")
_PREFIX = "pyserving_"
"""So that tools that look for leaked secrets have something to look for."""


def read_keys(path: str) -> Keys:
    """The keys by the hash of their token. Raises ServingError, INVALID_ARGUMENT names the line."""
    keys: dict[bytes, Key] = {}
    names: set[str] = set()
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = _parse(line)
        except ServingError as error:
            raise invalid_argument(f"{path}, line {number}: {error.message}") from None
        if key.name in names or key.digest in keys:
            raise invalid_argument(f"{path}, line {number}: there is a key of this name or hash above")
        names.add(key.name)
        keys[key.digest] = key
    return keys


def read_api_keys(path: str) -> Reloading[Keys] | None:
    """The same, read again when the file changes; None where ``path`` is empty."""
    return Reloading(f"The API keys in {path}", [path], lambda: read_keys(path)) if path else None


def add_key(path: str, name: str, roles: Sequence[Role], models: Sequence[str] = ()) -> str:
    """Makes a key, writes its hash to the file, and returns its token, which is kept nowhere.

    A file that is not there is made, for its owner's eyes only. Raises ServingError: ALREADY_EXISTS for a name that is
    taken, INVALID_ARGUMENT for one that cannot be written.
    """
    _check_name(name)
    for pattern in models:
        if not _PATTERN.fullmatch(pattern):
            raise invalid_argument(f"expected patterns of models without blanks and commas, got {pattern!r}")
    lines = _lines(path) if os.path.exists(path) else []
    if lines and any(key.name == name for key in read_keys(path).values()):
        raise ServingError(Code.ALREADY_EXISTS, f"{path} has a key named {name}: remove it first")
    token = _PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {','.join(roles)} sha256:{hashlib.sha256(token.encode()).hexdigest()}"
    if models:
        line += f" models={','.join(models)}"
    _replace(path, [*lines, line])
    return token


def remove_key(path: str, name: str) -> None:
    """Raises ServingError: NOT_FOUND where the file has no such key."""
    if all(key.name != name for key in read_keys(path).values()):
        raise ServingError(Code.NOT_FOUND, f"{path} has no key named {name}")
    _replace(path, [line for line in _lines(path) if line.startswith("#") or line.split()[:1] != [name]])


def _parse(line: str) -> Key:
    words = line.split()
    if len(words) not in (3, 4):
        raise invalid_argument("expected: name role[,role] sha256:HEX [models=pattern[,pattern]]")
    name, roles, digest = words[:3]
    _check_name(name)
    found = _HASH.fullmatch(digest)
    if found is None:
        raise invalid_argument("expected sha256: and 64 hexadecimal digits in lower case")
    try:
        allowed = frozenset(map(Role, roles.split(",")))
    except ValueError as error:
        raise invalid_argument(f"expected roles of {', '.join(Role)}: {error}") from None
    models: Sequence[str] = ()
    if len(words) == 4:
        option, _, patterns = words[3].partition("=")
        models = tuple(patterns.split(","))
        if option != "models" or not all(map(_PATTERN.fullmatch, models)):
            raise invalid_argument(f"expected models=pattern[,pattern], got {words[3]!r}")
    return Key(name, allowed, bytes.fromhex(found[1]), models)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise invalid_argument(f"expected a name of up to 64 letters, digits and ._@-, got {name!r}")


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError as error:
        raise serving_error(path, error) from None
    except UnicodeDecodeError:
        raise invalid_argument(f"{path} is no text in UTF-8") from None


def _replace(path: str, lines: Sequence[str]) -> None:
    """Atomically: a server that reads it meanwhile sees all of the old file or all of the new one."""
    path = os.path.realpath(path)
    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o600
    descriptor, written = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".keys-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(written, mode)
        os.replace(written, path)
    except BaseException:
        os.unlink(written)
        raise
