"""Says which versions of a model there should be, where its config leaves that to administrators."""

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from pyserving.api.exchange import RpcContext, RpcHandler
from pyserving.api.json_object import read_object
from pyserving.api.parse_message import parse_message
from pyserving.core.errors import invalid_argument
from pyserving.protos import messages

_SERVICE = "/pyserving.VersionService/"


class Pushes(Protocol):
    """Takes what is pushed."""

    async def set_aspired(self, name: str, versions: Mapping[int, str]) -> Mapping[int, str]:
        """These are all versions of a model: folders by number. Returns where they are. Raises ServingError."""
        ...


class PushApi:
    """``pyserving.VersionService`` over gRPC, and the same over REST."""

    def __init__(self, pushes: Pushes) -> None:
        self._pushes = pushes

    def methods(self) -> Mapping[str, RpcHandler]:
        return {_SERVICE + "SetAspired": self._set_aspired}

    async def answer(self, name: str, data: bytes) -> bytes:
        """The JSON answer to ``{"versions": [{"number": 3, "path": "..."}]}``. Raises ServingError."""
        body = await read_object(data)
        _check_members(body, "versions")
        listed = body.get("versions")
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise invalid_argument('Expected {"versions": [{"number": 3, "path": "..."}]}')
        for entry in listed:
            _check_members(entry, "number", "path")
        pairs = [(_number(entry.get("number")), _path(entry.get("path"))) for entry in listed]
        aspired = await self._pushes.set_aspired(name, _by_number(pairs))
        return orjson.dumps({"versions": [{"number": str(number), "path": path} for number, path in aspired.items()]})

    async def _set_aspired(self, data: bytes, _: RpcContext) -> bytes:
        request = parse_message(messages.SetAspiredRequest, data)
        pairs = [(version.number, version.path) for version in request.versions]
        aspired = await self._pushes.set_aspired(request.model, _by_number(pairs))
        response = messages.SetAspiredResponse()
        for number, path in aspired.items():
            response.versions.add(number=number, path=path)
        serialized: bytes = response.SerializeToString()
        return serialized


def _by_number(pairs: list[tuple[int, str]]) -> dict[int, str]:
    versions: dict[int, str] = {}
    for number, path in pairs:
        if number in versions:
            raise invalid_argument(f"Expected each version once; got {number} twice")
        versions[number] = path
    return versions


def _check_members(body: Mapping[str, Any], *known: str) -> None:
    if unknown := sorted(body.keys() - set(known)):
        raise invalid_argument(f"Expected only {' and '.join(known)}; got {', '.join(unknown)}")


def _number(value: object) -> int:
    """As answers have it a text of digits, or a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    raise invalid_argument(f"Expected number to be a whole number; got {value!r}")


def _path(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise invalid_argument(f"Expected path to be a text; got {value!r}")
