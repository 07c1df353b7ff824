"""JSON values as error texts show them (rapidjson's pretty writer, lists on one line)."""

import math
import re
from collections.abc import Iterator
from decimal import Decimal

from pyserving.wire.json_reader import JsonObject, JsonValue

_ENOUGH = 256
"""Once so many characters are written, nothing more is begun; the last string may make the text longer."""

_INDENT = "    "
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def type_name(value: JsonValue) -> str:
    """``Null``, ``False``, ``True``, ``Object``, ``Array``, ``String`` or ``Number``."""
    if value is None or isinstance(value, bool):
        return {None: "Null", False: "False", True: "True"}[value]
    if isinstance(value, JsonObject):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "String" if isinstance(value, str) else "Number"


def describe(value: JsonValue) -> str:
    """``value`` as text, cut short where it is long or where a number is not finite, as the real server does."""
    text = ""
    open_containers: list[tuple[Iterator[JsonValue], str]] = []  # what is left in each, and what closes it
    prefix = ""
    while True:
        # ``value`` is to be written, ``prefix`` goes before it.
        if len(text) >= _ENOUGH:
            return text
        text += prefix
        if isinstance(value, JsonObject):
            text += "{"
            open_containers.append((iter(value.members), "}"))
            separator = ""
        elif isinstance(value, list):
            text += "["
            open_containers.append((iter(value), "]"))
            separator = ""
        else:
            if isinstance(value, float) and not math.isfinite(value):
                return text
            text += _scalar(value)
            separator = ","
        # Find what comes next, closing what is at its end.
        while open_containers:
            rest, closing = open_containers[-1]
            if len(text) >= _ENOUGH:
                return text
            try:
                value = next(rest)
            except StopIteration:
                open_containers.pop()
                if closing == "}" and separator:
                    text += "\n" + _INDENT * len(open_containers)
                text += closing
                separator = ","
                continue
            if closing == "]":
                prefix = ", " if separator else ""
            else:
                name, value = value
                text += f"{separator}\n{_INDENT * len(open_containers)}{_scalar(name)}"
                prefix = ": "
            break
        else:
            return text


def _scalar(value: JsonValue) -> str:
    if isinstance(value, str):
        return '"' + _ESCAPED.sub(_escape, value) + '"'
    if isinstance(value, float):
        return _float(value)
    return str(value) if type(value) is int else {None: "null", False: "false", True: "true"}[value]


def _escape(match: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04X}"


def _float(value: float) -> str:
    """The shortest digits that read back as ``value``, in rapidjson's layout: ``1.0``, ``0.001``, ``1e30``."""
    sign, digit_tuple, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, digit_tuple)).lstrip("0")
    stripped = digits.rstrip("0")
    exponent += len(digits) - len(stripped)
    digits = stripped
    point = len(digits) + exponent  # 10**(point - 1) <= value < 10**point
    if not digits:
        text = "0.0"
    elif exponent >= 0 and point <= 21:
        text = digits + "0" * exponent + ".0"
    elif 0 < point <= 21:
        text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + f"e{point - 1}"
    return "-" + text if sign else text
