"""The gRPC methods that Ray's proxies take, as their option ``grpc_servicer_functions`` wants them."""

from collections.abc import Mapping
from typing import Any

import grpc

from pyserving.api.access import RPC_NEEDS

_STREAMING = ("/tensorflow.serving.PredictionService/PredictStreamed",)
"""Methods that answer with a stream."""
_NOT_SERVED = (
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/tensorflow.serving.SessionService/SessionRun",
)
"""A stream from a client stays with one process, and reflection is Ray's."""

METHODS: Mapping[str, str] = {
    path.rpartition("/")[2]: path for path in RPC_NEEDS if path not in (*_NOT_SERVED, *_STREAMING)
}
"""Full names of methods with one answer, by the method names that Ray looks for in a deployment."""
STREAMING_METHODS: Mapping[str, str] = {path.rpartition("/")[2]: path for path in _STREAMING}


def add_services(servicer: Any, server: Any) -> None:
    """Adds all services to ``server``. Requests are left as they came: bytes."""
    services: dict[str, dict[str, Any]] = {}
    for methods, make in (
        (METHODS, grpc.unary_unary_rpc_method_handler),
        (STREAMING_METHODS, grpc.unary_stream_rpc_method_handler),
    ):
        for name, path in methods.items():
            services.setdefault(path.split("/")[1], {})[name] = make(getattr(servicer, name))
    # Ray looks at the first handler of each call only.
    for service, handlers in services.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
