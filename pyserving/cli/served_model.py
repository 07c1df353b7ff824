"""Describes a model that a server has, by what the server tells of it."""

from pyserving.client import Client
from pyserving.core.errors import invalid_argument
from pyserving.inspection.description import Description, GraphDescription, describe_signature
from pyserving.platforms.model import Signature


def describe_served(address: str, model: str | None) -> Description:
    """The version of ``model`` that answers, or of the only model there is. Raises ServingError, see ``Client``."""
    with Client(address, retries=0) as client:
        if model is None:
            names = list(client.models())
            if len(names) != 1:
                there = ", ".join(names) or "none"
                raise invalid_argument(f"say which model with --model: the server has {there}")
            (model,) = names
        told = client.metadata(model)
    signatures = {
        name: describe_signature(Signature(name, spec.inputs, spec.outputs, spec.method_name))
        for name, spec in sorted(told.signatures.items())
    }
    return Description(f"{address} {told.name} version {told.version}", "served", None, [GraphDescription(signatures)])
