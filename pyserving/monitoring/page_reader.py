"""Reads the page for Prometheus back into metrics: that of PyServing, and that of TensorFlow Serving."""

import re
from collections.abc import Mapping

from pyserving.monitoring.metrics import Distribution, Family, Labels

_LINE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_PLAIN = {"n": "\n"}


def read_page(text: str) -> list[Family]:
    """The metrics in the order of the page. Lines that are none are passed over. Raises ValueError for bad numbers."""
    kinds: dict[str, str] = {}
    names: dict[str, tuple[str, ...]] = {}
    numbers: dict[str, dict[Labels, float]] = {}
    buckets: dict[str, dict[Labels, dict[float, float]]] = {}
    sums: dict[str, dict[Labels, float]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            kinds[name] = kind.strip()
            continue
        match = _LINE.match(line)
        if match is None:
            continue
        name, value = match["name"], float(match["value"])
        labels = {key: _ESCAPED.sub(_unescaped, given) for key, given in _LABEL.findall(match["labels"] or "")}
        base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        if kinds.get(base) == "histogram" and base != name:
            limit = labels.pop("le", "")
            names.setdefault(base, tuple(labels))
            key = tuple(labels.values())
            if limit:
                buckets.setdefault(base, {}).setdefault(key, {})[float(limit)] = value
            elif name.endswith("_sum"):
                sums.setdefault(base, {})[key] = value
        else:
            names.setdefault(name, tuple(labels))
            numbers.setdefault(name, {})[tuple(labels.values())] = value
    families = []
    for name, kind in kinds.items():
        values: Mapping[Labels, float | Distribution] = numbers.get(name, {})
        bounds: tuple[float, ...] = ()
        if kind == "histogram":
            found = buckets.get(name, {})
            bounds = tuple(sorted({limit for counts in found.values() for limit in counts}))[:-1]
            values = {
                key: Distribution(_counts(counts), sums.get(name, {}).get(key, 0.0)) for key, counts in found.items()
            }
        families.append(Family(name, kind, names.get(name, ()), values, bounds))
    return families


def _counts(cumulated: Mapping[float, float]) -> tuple[int, ...]:
    totals = [int(cumulated[limit]) for limit in sorted(cumulated)]
    return tuple(total - before for total, before in zip(totals, [0, *totals], strict=False))


def _unescaped(match: re.Match[str]) -> str:
    return _PLAIN.get(match[1], match[1])
