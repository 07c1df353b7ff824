"""The text format in which Prometheus reads metrics (version 0.0.4), written as TensorFlow Serving writes it."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from pyserving.monitoring.metrics import Distribution, Family, Labels

CONTENT_TYPE = "text/plain"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def write_page(families: Iterable[Family]) -> bytes:
    """The page: metrics by name, and for each of them its type, then its values by their labels.

    A metric without any value yet has its type alone. Names stay as they are: a counter gets no ``_total``.
    """
    lines = []
    for family in sorted(families, key=lambda family: family.name):
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines += _value_lines(family)
    # A path may have a name that is no UTF-8.
    return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")


def _value_lines(family: Family) -> Iterator[str]:
    limits = [f"{bound:g}" for bound in family.bounds] + ["+Inf"]
    for labels in sorted(family.values):
        value = family.values[labels]
        pairs = _pairs(family, labels)
        if isinstance(value, Distribution):
            before = f"{family.name}_bucket{{{pairs}{',' if pairs else ''}le="
            count = 0
            for limit, count in zip(limits, accumulate(value.counts), strict=True):
                yield f'{before}"{limit}"}} {count}'
            yield f"{family.name}_sum{{{pairs}}} {_number(value.sum)}"
            yield f"{family.name}_count{{{pairs}}} {count}"
        else:
            yield f"{family.name}{{{pairs}}} {_number(value)}"


def _pairs(family: Family, labels: Labels) -> str:
    return ",".join(
        f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(family.label_names, labels, strict=True)
    )


def _number(value: float) -> str:
    """All the digits there are: what is cut off a sum would be missed in its growth."""
    return str(value) if isinstance(value, int) else f"{value:.15g}"
