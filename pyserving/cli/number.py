"""Numbers that options take."""

import math
from typing import Any

import click

LONGEST = 1e9
"""Seconds, of what waits: some clocks count no further."""


class Number(click.FloatRange):
    """A float of a range. click's own takes ``nan``, too, which is in every range and no number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"expected a number, got {value}", param, ctx)
        return number
