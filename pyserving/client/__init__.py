"""Asks model servers: PyServing and TensorFlow Serving, over REST and gRPC."""

from pyserving.client.aio import AsyncClient
from pyserving.client.answers import Class, ModelMetadata, Prediction, SignatureSpec, VersionStatus
from pyserving.client.blocking import Client
from pyserving.client.errors import NotOffered, Unreachable

__all__ = [
    "AsyncClient",
    "Class",
    "Client",
    "ModelMetadata",
    "NotOffered",
    "Prediction",
    "SignatureSpec",
    "Unreachable",
    "VersionStatus",
]
