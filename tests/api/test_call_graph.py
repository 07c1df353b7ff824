"""Models that ask each other in a circle are found out; versions that are gone count no more."""

import pytest

from pyserving.api.composition import CallGraph
from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId


def test_a_circle_is_refused_until_one_of_it_is_gone() -> None:
    there = {ServableId(name, 1) for name in "abc"}
    graph = CallGraph(there.__contains__)
    a, b, c = (ServableId(name, 1) for name in "abc")
    graph.add(a, b)
    graph.add(b, c)
    graph.add(a, b)
    for asking, asked, circle in ((c, a, "c asks a asks b asks c"), (b, b, "b asks b")):
        with pytest.raises(ServingError, match=circle) as raised:
            graph.add(asking, asked)
        assert raised.value.code is Code.FAILED_PRECONDITION
    there.remove(b)
    graph.add(c, a)
    with pytest.raises(ServingError, match="a asks c asks a"):
        graph.add(a, c)


def test_other_versions_are_others() -> None:
    graph = CallGraph(lambda _: True)
    graph.add(ServableId("a", 1), ServableId("b", 1))
    graph.add(ServableId("b", 2), ServableId("a", 1))


def test_what_is_gone_is_forgotten() -> None:
    graph = CallGraph(lambda servable: servable.version > 5000)
    for version in range(5010):
        graph.add(ServableId("a", version), ServableId("b", version))
    assert len(graph._asked) < 2000
