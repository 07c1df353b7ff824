"""What lies under a base path in an object store."""

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from pyserving.core.errors import Code, ServingError
from pyserving.sources.base_path import check_readable
from pyserving.sources.settling import FolderContents
from pyserving.sources.version_folders import Duplicate, VersionPath, parse_version

T = TypeVar("T")

MARKER = "_SUCCESS"
"""An object of this name in a version's folder says that the folder is whole, as Hadoop and Spark have it."""

_REST_NS = 60_000_000_000
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})(?:-([0-9]+))?"?')
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "Last-Modified")
_TAGS = ("generation", "ETag", "etag", *_TIMES)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One file of a version folder."""

    path: str
    """Relative to the version folder, with "/"."""
    key: str
    """As the store names it."""
    size: int
    """In bytes."""
    tag: str
    """Another one when the content is another: the store's ETag or generation; else the time of the last change."""
    changed_ns: int
    """ns since the epoch, by the store's clock; 0: the store does not tell."""
    md5: bytes | None = None
    crc32c: bytes | None = None
    """Big endian."""
    etag_md5: bytes | None = None
    """What an ETag of S3 says, which is the MD5 of the content only where it was not encrypted with a key of KMS."""
    parts: int = 0
    """If not 0, it was uploaded in so many parts, and ``etag_md5`` is the MD5 of the MD5s of all parts."""


@dataclass(frozen=True, slots=True)
class Checksums:
    """What S3 tells of one object when it is asked for that."""

    crc32: bytes | None = None
    """Of the whole content; both in big endian."""
    crc32c: bytes | None = None
    etag_is_md5: bool = False
    """So it is where the content is not encrypted, or with S3's own keys."""


class StoredContents(FolderContents):
    """A version folder in a store. Big objects appear late, and nothing tells that they are on their way: so at rest is
    what did not change for a minute."""

    __slots__ = ()

    def looks_whole(self) -> bool:
        return MARKER in self.entries or super().looks_whole()

    def is_at_rest(self) -> bool:
        return MARKER in self.entries or 0 < self.newest_ns < time.time_ns() - _REST_NS


def contents_of(objects: list[StoredObject]) -> StoredContents:
    """What settling compares."""
    entries: dict[str, tuple[int | str, ...]] = {stored.path: (stored.size, stored.tag) for stored in objects}
    told = all(stored.changed_ns for stored in objects)
    return StoredContents(entries, max((stored.changed_ns for stored in objects), default=0) if told else 0)


class ObjectStore:
    """Reads below one base path. All methods block, and raise ServingError: NOT_FOUND, PERMISSION_DENIED, or
    UNAVAILABLE for whatever may pass."""

    def __init__(self, base_path: str) -> None:
        check_readable(base_path)
        # Heavy, and needed by few.
        import fsspec

        self.base_path = base_path
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        self._is_web = base_path.lower().startswith("http")
        if base_path.lower().startswith("gs:"):
            options["requests_timeout"] = 60
        self._files, root = _named(base_path, lambda: fsspec.core.url_to_fs(base_path, **options))
        self._root: str = root.rstrip("/") + ("/" if self._is_web else "")

    def list_versions(self) -> tuple[dict[int, VersionPath], list[Duplicate]]:
        """As ``version_folders.list_versions``; a path is the store's. One request for each thousand versions; of
        Azure, two."""
        names: dict[str, str] = {}
        for entry in self._ask(lambda: self._files.ls(self._root, detail=True)):
            path = entry["name"].rstrip("/")
            name = path.rpartition("/")[2]
            if entry["type"] == "directory" and parse_version(name) is not None:
                names[name] = path
        found: dict[int, VersionPath] = {}
        duplicates = []
        for name in sorted(names):
            version = parse_version(name)
            assert version is not None
            if version in found:
                duplicates.append(Duplicate(version, name, found[version].path.rpartition("/")[2]))
            found[version] = VersionPath(version, names[name])
        return found, duplicates

    def objects(self, folder: str) -> list[StoredObject]:
        """All files below a version folder, by path. A request for each thousand; on a web server one for each."""
        prefix = folder + "/"
        listed = self._ask(lambda: self._files.find(prefix if self._is_web else folder, detail=True))
        objects = []
        for key, info in sorted(listed.items()):
            path = key.removeprefix(prefix)
            # Some tools make objects that stand for folders.
            if not path or path.endswith("/") or path == key or info.get("type") == "directory":
                continue
            if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path or "\0" in path:
                raise ServingError(Code.FAILED_PRECONDITION, f"{key} has a name that no file can have")
            objects.append(_stored(path, key, self._info(key) if self._is_web else info))
        return objects

    def read(self, stored: StoredObject, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end``; all of them where a web server knows no ranges."""
        data: bytes = self._ask(lambda: self._files.cat_file(stored.key, start=start, end=end))
        if len(data) not in (end - start, stored.size):
            raise ServingError(
                Code.UNAVAILABLE, f"{stored.key}: expected {end - start} bytes from {start} on; got {len(data)}"
            )
        return data

    def checksums(self, stored: StoredObject) -> Checksums:
        """One request; none where this is not S3."""
        if not self.base_path.lower().startswith("s3:"):
            return Checksums()
        bucket, _, key = stored.key.partition("/")
        told = self._ask(lambda: self._files.call_s3("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED"))
        return Checksums(
            _decoded(told.get("ChecksumCRC32"), 4),
            _decoded(told.get("ChecksumCRC32C"), 4),
            told.get("ServerSideEncryption") in (None, "AES256") and "SSECustomerAlgorithm" not in told,
        )

    def _info(self, key: str) -> Mapping[str, Any]:
        info: Mapping[str, Any] = self._ask(lambda: self._files.info(key))
        return info

    def _ask(self, call: Callable[[], T]) -> T:
        def fresh() -> T:
            self._files.invalidate_cache()
            return call()

        return _named(self.base_path, fresh)


def _named(base_path: str, call: Callable[[], T]) -> T:
    """Names what goes wrong. Each library has exceptions of its own; of those we know only that they are some."""
    try:
        return call()
    except ServingError:
        raise
    except FileNotFoundError as error:
        raise ServingError(Code.NOT_FOUND, f"{base_path}: not found: {error}") from error
    except PermissionError as error:
        raise ServingError(Code.PERMISSION_DENIED, f"{base_path}: {error}") from error
    except Exception as error:
        raise ServingError(Code.UNAVAILABLE, f"{base_path}: {type(error).__name__}: {error}") from error


def _stored(path: str, key: str, info: Mapping[str, Any]) -> StoredObject:
    size = info.get("size")
    if size is None:
        raise ServingError(Code.FAILED_PRECONDITION, f"{key}: the server does not tell its size")
    settings = info.get("content_settings") or {}
    etag = _MD5_ETAG.fullmatch(str(info.get("ETag", "")))
    return StoredObject(
        path,
        key,
        int(size),
        next((str(info[name]) for name in _TAGS if info.get(name)), ""),
        max((_nanoseconds(info[name]) for name in _TIMES if info.get(name)), default=0),
        md5=_decoded(info.get("md5Hash") or info.get("Content-MD5") or settings.get("content_md5"), 16),
        crc32c=_decoded(info.get("crc32c"), 4),
        etag_md5=bytes.fromhex(etag[1]) if etag else None,
        parts=int(etag[2] or 0) if etag else 0,
    )


def _decoded(checksum: str | bytes | None, length: int) -> bytes | None:
    """A checksum in base64, or as it is. One of another length is none."""
    if not checksum:
        return None
    if isinstance(checksum, str):
        try:
            checksum = base64.b64decode(checksum, validate=True)
        except binascii.Error:
            return None
    return bytes(checksum) if len(checksum) == length else None


def _nanoseconds(when: object) -> int:
    try:
        if isinstance(when, str):
            when = parsedate_to_datetime(when) if "," in when else datetime.fromisoformat(when)
    except ValueError:
        return 0
    if not isinstance(when, datetime):
        return 0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return int(when.timestamp() * 1e9)
