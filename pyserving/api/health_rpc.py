"""gRPC's health service, ``grpc.health.v1.Health`` (github.com/grpc/grpc, doc/health-checking.md)."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from google.protobuf.message import DecodeError

from pyserving.api.exchange import RpcContext, RpcHandler, StreamHandler, only_message
from pyserving.api.health import Health
from pyserving.core.errors import Code, ServingError
from pyserving.protos.messages import HealthCheckRequest, HealthCheckResponse

_SERVICE = "/grpc.health.v1.Health/"
_SERVICES = frozenset(
    ("PredictionService", "ModelService", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
)
"""TensorFlow Serving knows the first two, and under these names; gRPC's custom is to give the full ones."""


class HealthRpc:
    """Health of the server as a whole (``""``: whether it is ready), of its services (serving until it drains), and of
    each configured model by its name (serving while a version is available)."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def methods(self) -> Mapping[str, RpcHandler]:
        return {_SERVICE + "Check": self._check}

    def streaming(self) -> Mapping[str, StreamHandler]:
        return {_SERVICE + "Watch": self._watch}

    async def _check(self, data: bytes, _: RpcContext) -> bytes:
        service = _service(data)
        status = self._status(service)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            raise ServingError(
                Code.NOT_FOUND, f"Unknown service {service!r}: neither a service nor a model of that name"
            )
        return HealthCheckResponse(status=status).SerializeToString()

    async def _watch(self, messages: AsyncIterator[bytes], _: RpcContext) -> AsyncGenerator[bytes, None]:
        """The status now and each time that it changes, until the server drains."""
        service = _service(await only_message(messages))
        last = None
        while True:
            status = self._status(service)
            if status != last:
                last = status
                yield HealthCheckResponse(status=status).SerializeToString()
                continue  # it may have changed while the client was behind
            if self._health.draining:
                raise ServingError(Code.UNAVAILABLE, "the server is stopping")
            await self._health.changed()

    def _status(self, service: str) -> int:
        health = self._health
        if service == "":
            serving = health.ready
        elif service in _SERVICES:
            serving = not health.draining
        elif service in health.models():
            serving = health.available(service)
        else:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING


def _service(data: bytes) -> str:
    try:
        return HealthCheckRequest.FromString(data).service
    except DecodeError as error:
        raise ServingError(Code.INTERNAL, f"the message is no grpc.health.v1.HealthCheckRequest: {error}") from None
