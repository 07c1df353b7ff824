"""docs/migrating.md names every flag, and says of it what the code says."""

import re
from dataclasses import fields
from pathlib import Path

from pyserving.cli.model_server_flags import ModelServerFlags

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migrating.md"
FLAGS = {declared.name: declared.metadata for declared in fields(ModelServerFlags)}
ROWS = {
    match[1]: (match[2], match[3].strip())
    for match in re.finditer(r"^\| `--(\w+)` \| ([^|]*) \| ([^|]*)\|$", PAGE.read_text(), re.MULTILINE)
}


def test_the_table_has_every_flag_and_no_other() -> None:
    missing, unknown = sorted(FLAGS.keys() - ROWS.keys()), sorted(ROWS.keys() - FLAGS.keys())
    assert not missing, f"add to the table of flags in {PAGE.name}: {missing}"
    assert not unknown, f"take out of the table of flags in {PAGE.name}, as there are no such flags: {unknown}"


def test_the_table_says_what_the_code_says() -> None:
    wrong = []
    for name, (kind, note) in ROWS.items():
        reason = FLAGS[name]["without_effect"]
        new = "TensorFlow Serving does not have this flag" in FLAGS[name]["help"]
        wanted = "no effect" if reason else "new" if new else "works"
        if kind != wanted:
            wrong.append(f"--{name}: write {wanted!r}, not {kind!r}")
        if reason and note != reason:
            wrong.append(f"--{name}: the reason is {reason!r}, not {note!r}")
    assert not wrong, f"change the table of flags in {PAGE.name}:\n" + "\n".join(wrong)
