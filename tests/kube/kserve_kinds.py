"""Checks objects (a list in JSON on standard input) against the models of KServe's and Kubernetes' own clients.

These are generated from the types that the CRDs are generated from. Prints a JSON list of what was checked; the first
object that does not fit ends the process with its place and name. In a process of its own as kserve_client.py is.
"""

import json
import sys
from typing import Any

from kserve import models as of_kserve
from kubernetes import client as of_kubernetes


def check(kind: str, value: Any, where: str) -> None:
    """Types, names of fields, and what is required. Raises ValueError, TypeError."""
    kind = kind[0].lower() + kind[1:] if kind.startswith(("List", "Dict")) else kind  # newer generators write both
    if kind.startswith("list["):
        expect(isinstance(value, list), where, kind, value)
        for number, item in enumerate(value):
            check(kind[5:-1], item, f"{where}[{number}]")
    elif kind.startswith("dict"):
        expect(isinstance(value, dict), where, kind, value)
        for key, item in value.items():
            check(kind[5:-1].partition(", ")[2], item, f"{where}.{key}")
    elif kind in ("str", "int", "bool", "float"):
        expect(type(value).__name__ == kind, where, kind, value)
    elif kind != "object":
        check_model(getattr(of_kserve, kind, None) or getattr(of_kubernetes, kind), value, where)


def check_model(model: Any, value: Any, where: str) -> None:
    expect(isinstance(value, dict), where, model.__name__, value)
    attributes = {in_json: name for name, in_json in model.attribute_map.items()}
    if unknown := value.keys() - attributes.keys():
        raise ValueError(f"{where}: {model.__name__} has no {', '.join(sorted(unknown))}")
    try:
        model(**{attributes[key]: item for key, item in value.items()})  # which looks for what is required
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for key, item in value.items():
        check(model.openapi_types[attributes[key]], item, f"{where}.{key}")


def expect(holds: bool, where: str, kind: str, value: Any) -> None:
    if not holds:
        raise TypeError(f"{where}: expected {kind}, got {value!r}")


KINDS = {
    "ClusterServingRuntime": of_kserve.V1alpha1ClusterServingRuntime,
    "ServingRuntime": of_kserve.V1alpha1ServingRuntime,
    "InferenceService": of_kserve.V1beta1InferenceService,
}

if __name__ == "__main__":
    checked = []
    for one in json.load(sys.stdin):
        name = f"{one['kind']} {one['metadata']['name']}"
        check_model(KINDS[one["kind"]], one, name)
        checked.append(name)
    print(json.dumps(checked))
