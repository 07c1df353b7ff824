"""Adds up the metrics of several processes."""

from collections.abc import Iterable

from pyserving.monitoring.metrics import Distribution, Family, Labels

Value = float | Distribution


def merge(pages: Iterable[Iterable[Family]]) -> list[Family]:
    """All metrics by name, values with the same labels added up.

    So a value that only one process can know, or that all know alike, belongs on the page of one of them.
    """
    families: dict[str, Family] = {}
    for page in pages:
        for family in page:
            known = families.get(family.name)
            if known is None:
                families[family.name] = family
                continue
            values: dict[Labels, Value] = dict(known.values)
            for labels, value in family.values.items():
                values[labels] = _sum(values[labels], value) if labels in values else value
            families[family.name] = Family(family.name, family.kind, family.label_names, values, family.bounds)
    return list(families.values())


def only_growing(page: Iterable[Family]) -> list[Family]:
    """Without the metrics that may fall: what a process has counted stays true when it is gone, its gauges do not."""
    return [family for family in page if family.kind != "gauge"]


def _sum(one: Value, other: Value) -> Value:
    if isinstance(one, Distribution) and isinstance(other, Distribution):
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Distribution(counts, one.sum + other.sum)
    if isinstance(one, Distribution) or isinstance(other, Distribution):
        raise ValueError("Expected two numbers or two distributions to add up, got one of each")
    return one + other
