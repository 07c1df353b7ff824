"""Who may ask for what: API keys, the role that each method and page needs, and the models that a key is bound to.

What a key is compared by is the SHA-256 of what the client shows. A slow hash such as scrypt protects passwords, which
can be guessed; our tokens are 256 random bits, which cannot. So one fast hash and one look into a dict suffice for each
request. The look-up leaks nothing by its time: what is compared is a hash that the client cannot choose.
"""

import fnmatch
import hashlib
import ipaddress
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pyserving.api.exchange import HttpGuard, HttpResponse, Peer, RpcGuard
from pyserving.api.own_page import is_own_page
from pyserving.core.errors import Code, ServingError

logger = logging.getLogger("pyserving.api")

_LOG_SECONDS = 10.0
"""Between two lines about refusals: who is refused must not be able to fill the log."""


class Role(StrEnum):
    """What a key allows. None of them includes another."""

    PREDICT = "predict"
    """Inference."""
    READ = "read"
    """States, metadata, the list of models, metrics, reflection."""
    ADMIN = "admin"
    """All that changes what is served."""


@dataclass(frozen=True, slots=True)
class Need:
    """What it takes to call a method or to see a page."""

    role: Role | None
    """None: nothing, it is open to everybody."""
    names_model: bool = False
    """The request names a model, and ``Caller.check_model`` is asked about it. Keys that are bound to models can use
    nothing else."""
    model: str = ""
    """The model's name where it is known before the body was read."""


OPEN = Need(None)
_UNDECLARED = Need(Role.ADMIN)
"""Of a method that is not in the table."""

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_INFERENCE = "/inference.GRPCInferenceService/"

RPC_NEEDS: Mapping[str, Need] = {
    **{
        _PREDICTION + name: Need(Role.PREDICT, names_model=True)
        for name in ("Predict", "Classify", "Regress", "MultiInference", "PredictStreamed")
    },
    "/tensorflow.serving.SessionService/SessionRun": Need(Role.PREDICT, names_model=True),
    _PREDICTION + "GetModelMetadata": Need(Role.READ, names_model=True),
    _MODEL + "GetModelStatus": Need(Role.READ, names_model=True),
    _MODEL + "HandleReloadConfigRequest": Need(Role.ADMIN),
    **{_INFERENCE + name: Need(Role.PREDICT, names_model=True) for name in ("ModelInfer", "ModelStreamInfer")},
    **{
        _INFERENCE + name: Need(Role.READ, names_model=True)
        for name in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics")
    },
    **{_INFERENCE + name: Need(Role.READ) for name in ("ServerMetadata", "RepositoryIndex")},
    **{_INFERENCE + name: Need(Role.ADMIN) for name in ("RepositoryModelLoad", "RepositoryModelUnload")},
    **{_INFERENCE + name: OPEN for name in ("ServerLive", "ServerReady")},
    "/pyserving.RolloutService/Promote": Need(Role.ADMIN),
    "/pyserving.RolloutService/Rollback": Need(Role.ADMIN),
    "/pyserving.VersionService/SetAspired": Need(Role.ADMIN),
    "/grpc.health.v1.Health/Check": OPEN,
    "/grpc.health.v1.Health/Watch": OPEN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Need(Role.READ),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Need(Role.READ),
}
"""Of each gRPC method. One that is missing here needs ADMIN."""


@dataclass(frozen=True, slots=True)
class Key:
    """Who shows a certain token, and what that allows. A request by it has this as its ``caller``."""

    name: str
    roles: frozenset[Role]
    digest: bytes
    """SHA-256 of the token."""
    models: Sequence[str] = ()
    """Patterns as in file names (``*``, ``?``, ``[...]``); empty: all models."""

    def check_model(self, name: str) -> None:
        """Raises PERMISSION_DENIED."""
        if self.models and not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.models):
            raise ServingError(Code.PERMISSION_DENIED, f"The API key {self.name} is not for the model {name}")


Keys = Mapping[bytes, Key]
"""By digest."""

HttpNeed = Callable[[str, str], Need]
"""What a method and a target need."""


class Access:
    """Makes, for each connection, what looks at its requests before their bodies are read."""

    def __init__(self, keys: Callable[[], Keys] | None, *, admin_from_anywhere: bool = False) -> None:
        """``keys``: those that hold now; None: no key is asked for. Then methods that need ADMIN answer peers on this
        machine only, unless ``admin_from_anywhere``."""
        self._keys = keys
        self._admin_from_anywhere = admin_from_anywhere
        self.refused: Counter[str] = Counter()
        """Requests by the name of the code they were refused with."""
        self._unlogged = 0
        self._logged_at = -_LOG_SECONDS

    def rpc_guard(self, peer: Peer) -> RpcGuard | None:
        """Of a connection; None: it may do everything."""
        if self._keys is None:
            return self._refuse_admin(peer) if self._is_stranger(peer) else None

        def guard(path: str, fields: Mapping[bytes, bytes]) -> Key | None:
            need = RPC_NEEDS.get(path, _UNDECLARED)
            try:
                return self._admit(need, fields.get(b"authorization"), fields.get(b"x-api-key"))
            except ServingError as error:
                self._refused(peer, path, error)
                raise

        return guard

    def http_guard(self, peer: Peer, need_of: HttpNeed, headers: Sequence[tuple[str, str]]) -> HttpGuard:
        """Of a connection. ``headers`` go with each refusal."""
        keys = self._keys
        welcome = keys is None and not self._is_stranger(peer)

        def guard(method: str, target: str, fields: Mapping[str, str]) -> HttpResponse | None:
            if welcome and "origin" not in fields:
                return None
            need = need_of(method, target)
            try:
                if welcome:
                    self._check_origin(need, fields)
                elif keys is None:
                    self._check_address(need)
                else:
                    self._admit(need, _bytes(fields.get("authorization")), _bytes(fields.get("x-api-key")))
            except ServingError as error:
                self._refused(peer, f"{method} {target}", error)
                body = json.dumps({"error": error.message}).encode()
                if error.code is Code.UNAUTHENTICATED:
                    return HttpResponse(401, body, headers=[*headers, ("WWW-Authenticate", 'Bearer realm="pyserving"')])
                return HttpResponse(403, body, headers=headers)
            return None

        return guard

    @property
    def asks_for_keys(self) -> bool:
        return self._keys is not None

    def has_role(self, role: Role, fields: Mapping[str, str]) -> bool:
        """Whether the key that a request shows in its headers, if it shows one, allows what ``role`` is needed for."""
        try:
            self._admit(Need(role), _bytes(fields.get("authorization")), _bytes(fields.get("x-api-key")))
        except ServingError:
            return False
        return True

    def key_name(self, fields: Mapping[str, str]) -> str:
        """The name of the key that a request shows in its headers; empty where it shows none that is known."""
        if self._keys is None:
            return ""
        try:
            token = _token(_bytes(fields.get("authorization")), _bytes(fields.get("x-api-key")))
        except (ServingError, ValueError):
            return ""
        key = self._keys().get(hashlib.sha256(token).digest())
        return "" if key is None else key.name

    def _is_stranger(self, peer: Peer) -> bool:
        return not self._admin_from_anywhere and not is_local(peer)

    def _refuse_admin(self, peer: Peer) -> RpcGuard:
        def guard(path: str, _: Mapping[bytes, bytes]) -> None:
            try:
                self._check_address(RPC_NEEDS.get(path, _UNDECLARED))
            except ServingError as error:
                self._refused(peer, path, error)
                raise

        return guard

    def _check_address(self, need: Need) -> None:
        if need.role is Role.ADMIN:
            raise ServingError(
                Code.PERMISSION_DENIED,
                "This is for administrators: without API keys it can be asked for on the server's own machine only",
            )

    def _check_origin(self, need: Need, fields: Mapping[str, str]) -> None:
        if need.role is Role.ADMIN and not is_own_page(fields, any_name=self._admin_from_anywhere):
            raise ServingError(
                Code.PERMISSION_DENIED,
                "This is for administrators: web pages of another site than this server's own need an API key for it",
            )

    def _admit(self, need: Need, authorization: bytes | None, api_key: bytes | None) -> Key | None:
        if need.role is None:
            return None
        assert self._keys is not None
        token = _token(authorization, api_key)
        key = self._keys().get(hashlib.sha256(token).digest())
        if key is None:
            raise ServingError(Code.UNAUTHENTICATED, "The API key is not known, or was withdrawn")
        if need.role not in key.roles:
            raise ServingError(Code.PERMISSION_DENIED, f"The API key {key.name} has not the role {need.role}")
        if not key.models:
            return None
        if not need.names_model:
            raise ServingError(
                Code.PERMISSION_DENIED, f"The API key {key.name} is for certain models, and this is for no model alone"
            )
        if need.model:
            key.check_model(need.model)
        return key

    def _refused(self, peer: Peer, what: str, error: ServingError) -> None:
        self.refused[error.code.name] += 1
        now = time.monotonic()
        if now - self._logged_at < _LOG_SECONDS:
            self._unlogged += 1
            return
        address = peer[0] if isinstance(peer, tuple) else "a UNIX socket's peer"
        more = f" (and {self._unlogged} more before)" if self._unlogged else ""
        logger.warning("Refused %s from %s: %s%s", what[:200], address, error, more)
        self._unlogged = 0
        self._logged_at = now


def is_local(peer: Peer) -> bool:
    """Whether a peer is on this machine: it came by a UNIX socket, or from a loopback address."""
    if not isinstance(peer, tuple):
        return True
    address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _token(authorization: bytes | None, api_key: bytes | None) -> bytes:
    """Raises UNAUTHENTICATED where none is shown."""
    if authorization is not None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return token.strip()
    if api_key is None:
        raise ServingError(
            Code.UNAUTHENTICATED, "Expected an API key, as Authorization: Bearer KEY or as X-API-Key: KEY, got none"
        )
    return api_key


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1")
