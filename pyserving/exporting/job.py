"""What the process that exports with TensorFlow is told, and what it tells, as JSON lines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pyserving.exporting.signature_text import InputText


@dataclass(frozen=True, slots=True)
class Job:
    """One export."""

    source: str
    """A file of Keras, or ``package.module:object``, or ``file.py:object``."""
    folder: str
    """To write into; it does not exist."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """Methods of the object, by the names of signatures."""
    input_signatures: Mapping[str, Sequence[InputText]] = field(default_factory=dict)
    """By the name of the signature; that of the default one is empty."""
    custom_objects: Sequence[str] = ()
    """Import paths of what a file of Keras needs."""
    unsafe: bool = False
    """Let a file of Keras bring code of its own (lambda layers)."""


def to_line(job: Job) -> bytes:
    return json.dumps(asdict(job)).encode() + b"\n"


def from_line(line: bytes) -> Job:
    value: dict[str, Any] = json.loads(line)
    inputs = {
        name: [
            InputText(one["name"], one["dtype"], None if one["shape"] is None else tuple(one["shape"])) for one in all_
        ]
        for name, all_ in value.pop("input_signatures").items()
    }
    return Job(**value, input_signatures=inputs)
