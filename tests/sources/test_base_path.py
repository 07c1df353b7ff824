"""Base paths: absolute ones, URIs, and where they lie."""

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.sources.base_path import is_absolute, local_path


@pytest.mark.parametrize("path", ["/models/a", "/", "gs://bucket/a", "s3://bucket", "file:///a", "a.b://", "hdfs2://x"])
def test_absolute(path: str) -> None:
    assert is_absolute(path)


@pytest.mark.parametrize("path", ["", "models/a", "./a", "../a", "~/a", "://a", "2s://a", "a-b://c", "gs:/a", "gs:a"])
def test_relative(path: str) -> None:
    assert not is_absolute(path)


@pytest.mark.parametrize(
    ("base_path", "path"),
    [
        ("/models/a", "/models/a"),
        ("/models/a b%20/", "/models/a b%20/"),
        ("file:///models/a", "/models/a"),
        ("FILE:///models/a%20b", "/models/a b"),
        ("file://localhost/models", "/models"),
    ],
)
def test_local_path(base_path: str, path: str) -> None:
    assert local_path(base_path) == path


@pytest.mark.parametrize("base_path", ["gs://bucket/a", "file://elsewhere/a"])
def test_what_is_not_on_this_machine_is_refused(base_path: str) -> None:
    with pytest.raises(ServingError, match=base_path) as raised:
        local_path(base_path)
    assert raised.value.code is Code.UNIMPLEMENTED
