"""Which method and path ask for what."""

import pytest

from pyserving.api.models import ModelSpec
from pyserving.api.rest import HTTP_STATUS, Route, find_route
from pyserving.core.errors import Code, ServingError


@pytest.mark.parametrize(
    ("method", "target", "route"),
    [
        ("POST", "/v1/models/m:predict", Route("predict", ModelSpec("m"))),
        ("POST", "/v1/models/m:classify", Route("classify", ModelSpec("m"))),
        ("POST", "/v1/models/m:regress", Route("regress", ModelSpec("m"))),
        ("POST", "/v1/models/m/versions/007:predict", Route("predict", ModelSpec("m", version=7))),
        ("POST", "/v1/models/m/labels/stable:predict", Route("predict", ModelSpec("m", label="stable"))),
        ("POST", "/V1/Models/M/VERSIONS/1:predict", Route("predict", ModelSpec("M", version=1))),
        ("POST", "/v1/models/a%2Fb%3Ac%20d:predict", Route("predict", ModelSpec("a/b:c d"))),
        ("POST", "/v1/models/na%C3%AFve/labels/o%20o:predict", Route("predict", ModelSpec("naïve", label="o o"))),
        ("POST", "/v1/models/h%2561:predict", Route("predict", ModelSpec("h%61"))),
        ("GET", "/v1/models/m", Route("status", ModelSpec("m"))),
        ("GET", "/v1/models/m/versions/3", Route("status", ModelSpec("m", version=3))),
        ("GET", "/v1/models/m/labels/x", Route("status", ModelSpec("m", label="x"))),
        ("GET", "/v1/models/m/metadata", Route("metadata", ModelSpec("m"))),
        ("GET", "/v1/models/m/versions/3/metadata", Route("metadata", ModelSpec("m", version=3))),
        ("GET", "/v1/models/metadata", Route("status", ModelSpec("metadata"))),
        ("GET", "/v1/models/versions/versions/1", Route("status", ModelSpec("versions", version=1))),
    ],
)  # fmt: skip
def test_routes(method: str, target: str, route: Route) -> None:
    assert find_route(method, target) == route


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/", Code.NOT_FOUND),
        ("GET", "/v1", Code.NOT_FOUND),
        ("GET", "/v2/models/m", Code.NOT_FOUND),
        ("GET", "/v1/models", Code.INVALID_ARGUMENT),
        ("GET", "/v1/models/", Code.INVALID_ARGUMENT),
        ("GET", "/v1/models/versions/1", Code.INVALID_ARGUMENT),
        ("GET", "/v1/models/m:predict", Code.INVALID_ARGUMENT),
        ("PUT", "/v1/models/m:predict", Code.INVALID_ARGUMENT),
        ("POST", "/v1/models/m", Code.INVALID_ARGUMENT),
        ("POST", "/v1/models/m:PREDICT", Code.INVALID_ARGUMENT),
        ("POST", "/v1/models/m:predict/", Code.INVALID_ARGUMENT),
        ("POST", "/v1/models/m:predict?a=1", Code.INVALID_ARGUMENT),
        ("POST", "/v1/models/m/versions/-1:predict", Code.INVALID_ARGUMENT),
        ("POST", "/v1/models/m/versions/+1:predict", Code.INVALID_ARGUMENT),
        ("POST", "/v1/models/m/versions/\u0661:predict", Code.INVALID_ARGUMENT),
        ("GET", "/v1/models/m/versions/9223372036854775808", Code.INVALID_ARGUMENT),
        ("GET", "/v1/models/m/versions/" + "9" * 5000, Code.INVALID_ARGUMENT),
        ("GET", "/v1/models/%ZZ", Code.INVALID_ARGUMENT),
        ("GET", "/v1/models/m%", Code.INVALID_ARGUMENT),
        ("GET", "/v1/models/%FF", Code.INVALID_ARGUMENT),
        ("POST", "/v1/models/../models/m:predict", Code.INVALID_ARGUMENT),
    ],
)
def test_what_is_no_route(method: str, target: str, code: Code) -> None:
    with pytest.raises(ServingError) as caught:
        find_route(method, target)
    assert caught.value.code is code


def test_every_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == set(Code)
