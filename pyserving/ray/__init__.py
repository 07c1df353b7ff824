"""Serves models on a Ray cluster: a Ray Serve application made of the same parts as a server. Needs ``ray[serve]``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyserving.core.errors import Code, ServingError
from pyserving.ray.services import add_services

if TYPE_CHECKING:
    from pyserving.ray.serve_application import application, build, run

__all__ = ["add_services", "application", "build", "run"]


def __getattr__(name: str) -> Any:
    # Not before it is used: what keeps replicas in step does without Ray.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module("pyserving.ray.serve_application"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ServingError(Code.FAILED_PRECONDITION, "Expected Ray Serve: pip install 'pyserving[ray]'") from None
