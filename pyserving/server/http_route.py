"""What a path of the REST port asks for, as logs and traces tell it."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from pyserving.api.rest import find_route
from pyserving.core.errors import ServingError

_V2 = re.compile(r"/v2/models/(?P<model>[^/]+)(?P<version>/versions/[^/]+)?(?P<rest>/infer|/ready|/stats)?")


@dataclass(frozen=True, slots=True)
class HttpRoute:
    template: str = ""
    """The path with the names in it left out, so that it is one of few; empty for a path that is none of ours."""
    model: str = ""
    """The name in it, whether there is such a model or not."""


def http_route(method: str, path: str) -> HttpRoute:
    """``path``: without the query."""
    if match := _V2.fullmatch(path):
        version = "/versions/{version}" if match["version"] else ""
        return HttpRoute(f"/v2/models/{{model}}{version}{match['rest'] or ''}", unquote(match["model"]))
    try:
        route = find_route(method, path)
    except ServingError:
        return HttpRoute()
    if route.action == "preflight":
        return HttpRoute()
    which = "/versions/{version}" if route.spec.version is not None else ""
    which = "/labels/{label}" if route.spec.label is not None else which
    end = {"status": "", "metadata": "/metadata"}.get(route.action, f":{route.action}")
    return HttpRoute(f"/v1/models/{{model}}{which}{end}", route.spec.name)
