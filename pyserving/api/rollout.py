"""Moves the requests that name neither version nor label from one version of a model to another."""

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from pyserving.api.exchange import RpcContext, RpcHandler
from pyserving.api.json_object import read_object
from pyserving.api.parse_message import parse_message
from pyserving.core.errors import invalid_argument
from pyserving.protos import messages

_SERVICE = "/pyserving.RolloutService/"


class Rollouts(Protocol):
    """Both return the default version now, and the one before (0: there was none). They raise ServingError."""

    async def promote(self, name: str, version: int | None, label: str | None) -> tuple[int, int]:
        """With neither version nor label: the highest available one."""
        ...

    async def rollback(self, name: str) -> tuple[int, int]: ...


class RolloutApi:
    """``pyserving.RolloutService`` over gRPC, and the same over REST."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts

    def methods(self) -> Mapping[str, RpcHandler]:
        return {_SERVICE + "Promote": self._promote, _SERVICE + "Rollback": self._rollback}

    async def answer(self, action: str, name: str, data: bytes) -> bytes:
        """The JSON answer to ``promote`` or ``rollback`` of a model. ``data``: the body. Raises ServingError."""
        body = await read_object(data)
        if action == "rollback":
            _check_members(body)
            moved = await self._rollouts.rollback(name)
        else:
            _check_members(body, "version", "label")
            moved = await self._rollouts.promote(name, _version(body.get("version")), _label(body.get("label")))
        return orjson.dumps({"version": str(moved[0]), "previous_version": str(moved[1])})

    async def _promote(self, data: bytes, _: RpcContext) -> bytes:
        request = parse_message(messages.PromoteRequest, data)
        target = request.WhichOneof("target")
        moved = await self._rollouts.promote(
            request.model,
            request.version if target == "version" else None,
            request.label if target == "label" else None,
        )
        return _response(moved)

    async def _rollback(self, data: bytes, _: RpcContext) -> bytes:
        return _response(await self._rollouts.rollback(parse_message(messages.RollbackRequest, data).model))


def _response(moved: tuple[int, int]) -> bytes:
    serialized: bytes = messages.RolloutResponse(version=moved[0], previous_version=moved[1]).SerializeToString()
    return serialized


def _check_members(body: Mapping[str, Any], *known: str) -> None:
    if unknown := sorted(body.keys() - set(known)):
        expected = f"only {' or '.join(known)}" if known else "no body"
        raise invalid_argument(f"Expected {expected}; got {', '.join(unknown)}")
    if len(body) > 1:
        raise invalid_argument("Expected a version or a label, not both")


def _version(value: object) -> int | None:
    """A number, or as other answers have it a text of digits."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    raise invalid_argument(f"Expected version to be a number; got {value!r}")


def _label(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise invalid_argument(f"Expected label to be a text; got {value!r}")
