"""Describes a model that a server has, by what the server tells of it."""

from collections.abc import Mapping
from typing import Any

from pyserving.cli.asking import choose_model, connect
from pyserving.inspection.description import Description, GraphDescription, describe_signature
from pyserving.platforms.model import Signature


def describe_served(address: str, model: str | None, options: Mapping[str, Any]) -> Description:
    """The version of ``model`` that answers, or of the only model there is.

    ``options``: those of ``connection_options``. Raises ServingError, see ``Client``.
    """
    with connect(address, options) as client:
        told = client.metadata(choose_model(client, model))
    signatures = {
        name: describe_signature(Signature(name, spec.inputs, spec.outputs, spec.method_name))
        for name, spec in sorted(told.signatures.items())
    }
    return Description(f"{address} {told.name} version {told.version}", "served", None, [GraphDescription(signatures)])
