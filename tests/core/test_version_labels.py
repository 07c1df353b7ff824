import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.core.labels import VersionLabels
from pyserving.core.servable import ServableId


def only_1_and_2(servable_id: ServableId) -> bool:
    return servable_id.version in (1, 2)


@pytest.fixture
def labels() -> VersionLabels:
    labels = VersionLabels()
    labels.update({"a": {"stable": 1, "canary": 2}}, only_1_and_2)
    return labels


def test_labels_resolve_to_versions(labels: VersionLabels) -> None:
    assert (labels.resolve("a", "stable"), labels.resolve("a", "canary")) == (1, 2)
    assert labels.of("a") == {"stable": 1, "canary": 2}
    assert labels.of("b") == {}


@pytest.mark.parametrize(("name", "label"), [("a", "beta"), ("b", "stable")])
def test_an_unknown_label_is_an_invalid_argument(labels: VersionLabels, name: str, label: str) -> None:
    with pytest.raises(ServingError) as caught:
        labels.resolve(name, label)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == f"Unrecognized servable version label: {label}"


def test_a_label_for_a_version_that_is_not_available_changes_nothing(labels: VersionLabels) -> None:
    with pytest.raises(ServingError) as caught:
        labels.update({"z": {"stable": 1}, "a": {"stable": 2, "canary": 9}}, only_1_and_2)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message == (
        "Request to assign label to version 9 of model a, which is not currently available for inference"
    )
    assert (labels.of("a"), labels.of("z")) == ({"stable": 1, "canary": 2}, {})


def test_an_update_is_the_whole_truth(labels: VersionLabels) -> None:
    labels.update({"a": {"stable": 2}}, only_1_and_2)
    assert labels.of("a") == {"stable": 2}
    labels.update({}, only_1_and_2)
    assert labels.of("a") == {}


def test_where_allowed_only_a_new_label_may_point_to_what_is_not_available(labels: VersionLabels) -> None:
    labels.update({"a": {"stable": 1, "next": 9}}, only_1_and_2, allow_unavailable=True)
    assert labels.resolve("a", "next") == 9
    # It may stay where it is, and move to what is available, but not elsewhere.
    labels.update({"a": {"stable": 1, "next": 9}}, only_1_and_2, allow_unavailable=True)
    with pytest.raises(ServingError, match="version 10 of model a"):
        labels.update({"a": {"stable": 1, "next": 10}}, only_1_and_2, allow_unavailable=True)
    labels.update({"a": {"stable": 1, "next": 2}}, only_1_and_2, allow_unavailable=True)
    assert labels.resolve("a", "next") == 2
