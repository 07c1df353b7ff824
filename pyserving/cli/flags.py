"""Command line flags in the manner of TensorFlow's programs.

``--name=value``; booleans ``--name``, ``--name=true|false|1|0``. Of a flag given twice the last one counts. What is no
flag (a stray word, an unknown name, one dash) is set aside, not refused; so is all from ``--`` on. Beyond that, a flag
that is not a boolean may have its value in the next word.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from textwrap import fill

FlagValue = bool | int | float | str


class FlagType(Enum):
    BOOL = "bool"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT = "float"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    type: FlagType
    default: FlagValue
    group: str
    help: str


@dataclass(slots=True)
class ParsedFlags:
    values: dict[str, FlagValue] = field(default_factory=dict)
    """Of the flags that were given, by name."""
    unknown: list[str] = field(default_factory=list)
    """The words that are no flags, in their order."""
    errors: list[str] = field(default_factory=list)
    """One text for each value that is not of its flag's type."""
    help: bool = False
    """``--help`` was given."""


def parse_flags(flags: Iterable[Flag], arguments: Sequence[str]) -> ParsedFlags:
    """Reads the words after the program's name."""
    by_name = {flag.name: flag for flag in flags}
    parsed = ParsedFlags()
    words = iter(range(len(arguments)))
    for at in words:
        word = arguments[at]
        if word == "--":
            parsed.unknown.extend(arguments[at:])
            break
        if word == "--help":
            parsed.help = True
            continue
        name, equals, text = word.removeprefix("--").partition("=")
        flag = by_name.get(name) if word.startswith("--") else None
        if flag is None:
            parsed.unknown.append(word)
            continue
        if not equals:
            if flag.type is FlagType.BOOL:
                text = "true"
            elif at + 1 < len(arguments) and not arguments[at + 1].startswith("--"):
                text = arguments[next(words)]
            else:
                parsed.unknown.append(word)
                continue
        value = _value(flag.type, text)
        if value is None:
            parsed.errors.append(f"Couldn't interpret value {text} for flag {name}.")
        else:
            parsed.values[name] = value
    return parsed


def usage(command: str, flags: Iterable[Flag]) -> str:
    """The text of ``--help``: the flags by group, each with its default and type."""
    lines = [f"usage: {command} [--name=value ...]"]
    for group, members in groupby(flags, lambda flag: flag.group):
        lines.append(f"\n{group}:")
        for flag in members:
            lines.append(f"  --{flag.name}={_shown(flag.default)}  ({flag.type.value})")
            lines.append(fill(flag.help, 100, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines) + "\n"


def _value(kind: FlagType, text: str) -> FlagValue | None:
    """The value that a text stands for; None if it is not of that type."""
    match kind:
        case FlagType.STRING:
            return text
        case FlagType.BOOL:
            return {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
        case FlagType.INT32 | FlagType.INT64:
            # The length is bounded first: int() of thousands of digits is an error.
            if not re.fullmatch(r"\s*[+-]?[0-9]{1,30}", text, re.ASCII):
                return None
            bits = 31 if kind is FlagType.INT32 else 63
            number = int(text)
            return number if -(1 << bits) <= number < 1 << bits else None
        case FlagType.FLOAT:
            if not re.fullmatch(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text, re.ASCII):
                return None
            return float(text)


def _shown(value: FlagValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)
