"""What mkdocs needs beside docs/ for the site: a hook of mkdocs.yml.

Pages from elsewhere in the repository (README.md is the first page), pages that are made from the code, and links that
lead out of docs/: to a page that is on the site, to a file that is copied to it, or, for a folder, to nowhere.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from pyserving.cli.main import main as pyserving
from pyserving.cli.model_server_flags import ModelServerFlags

ROOT = Path(__file__).resolve().parents[1]
PROTO = ROOT / "pyserving" / "protos" / "pyserving.proto"

_LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?\)")
_FENCE = re.compile(r"^( *)(```+).*?^\1\2\s*?$", re.MULTILINE | re.DOTALL)
_INSERTED = re.compile(r"<!-- fields of pyserving\.(\w+) -->")

OUTER = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples/index.md",
} | {
    f"examples/{page.parent.name}/README.md": f"examples/{page.parent.name}.md"
    for page in (ROOT / "examples").glob("*/README.md")
}
"""Where the site has pages that are not in docs/."""

API = {
    "The client": (
        "pyserving.client.AsyncClient",
        "pyserving.client.Client",
        "pyserving.client.Prediction",
        "pyserving.client.VersionStatus",
        "pyserving.client.ModelMetadata",
        "pyserving.client.SignatureSpec",
        "pyserving.client.Class",
    ),
    "Errors": ("pyserving.ServingError", "pyserving.client.Unreachable", "pyserving.client.NotOffered"),
    "Writing a model": (
        "pyserving.Model",
        "pyserving.Tensor",
        "pyserving.signature",
        "pyserving.Models",
        "pyserving.ModelClient",
        "pyserving.InvalidInput",
    ),
}
"""What the page about the Python API shows."""

ALIKE = ("pyserving.client.Client",)
"""Of these the methods are not shown: another class has the same."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in docs/."""
    for source, page in OUTER.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "reference/pyserving.md", content="\n".join(_options())))
    files.append(File.generated(config, "reference/tensorflow_model_server.md", content="\n".join(_flags())))
    files.append(File.generated(config, "reference/python-api.md", content="\n".join(_api())))
    for path in sorted({path for file in files.documentation_pages() for path in _linked_files(file)}):
        files.append(File.generated(config, _on_site(path), content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turns links that leave docs/ to where their targets are on the site, and inserts what comes from the code."""
    source = page.file.src_uri
    filled = _INSERTED.sub(lambda match: "\n".join(_message_fields(match[1])), markdown)
    return _outside_of_code(filled, lambda text: _LINK.sub(lambda link: _turned(link, source), text))


def _origin(source: str) -> str:
    """The path in the repository of what a page was made from."""
    return next((outer for outer, page in OUTER.items() if page == source), f"docs/{source}")


def _on_site(path: str) -> str:
    """Where the site has a file of the repository."""
    if path in OUTER:
        return OUTER[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"


def _target(link: "re.Match[str]", source: str) -> str | None:
    """The file or folder in the repository to which a link leads; None if it leads elsewhere."""
    if ":" in link["target"]:
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(_origin(source)), link["target"]))
    return path if (ROOT / path).exists() and not path.startswith("..") else None


def _turned(link: "re.Match[str]", source: str) -> str:
    path = _target(link, source)
    if path is None:
        return link[0]
    if (ROOT / path).is_dir():
        return f"{link['text']} (`{path}`)" if path not in link["text"] else f"`{path}`"
    there = posixpath.relpath(_on_site(path), posixpath.dirname(source) or ".")
    return f"[{link['text']}]({there}{link['anchor'] or ''})"


def _linked_files(file: File) -> Iterator[str]:
    """The files outside of docs/ that a page links to."""
    found: list[str] = []

    def look(text: str) -> str:
        found.extend(path for link in _LINK.finditer(text) if (path := _target(link, file.src_uri)))
        return text

    _outside_of_code(file.content_string, look)
    return (path for path in found if path not in OUTER and not path.startswith("docs") and (ROOT / path).is_file())


def _outside_of_code(markdown: str, change: Any) -> str:
    """The text, with ``change`` done to all but blocks of code."""
    pieces, end = [], 0
    for block in _FENCE.finditer(markdown):
        pieces += [change(markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*pieces, change(markdown[end:])])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _flags() -> Iterator[str]:
    yield "# Flags of tensorflow_model_server\n"
    yield "Made from the code. [Moving over](../migrating.md#flags) compares each flag with the original's.\n"
    yield "Booleans are `--flag` or `--flag=true|false|1|0`; others `--flag=value` or `--flag value`.\n"
    declared = fields(ModelServerFlags)
    for group, members in groupby(sorted(declared, key=lambda flag: _order(flag.metadata["group"])), _group):
        yield f"\n## {group}\n\n| flag | default | |\n|---|---|---|"
        for flag in members:
            text, reason = flag.metadata["help"], flag.metadata["without_effect"]
            default = str(flag.default).lower() if isinstance(flag.default, bool) else str(flag.default)
            if flag.name.endswith("_threads") and reason:
                default = "4 × cores"
            shown = f"`{default}`" if default else ""
            yield f"| `--{flag.name}` | {shown} | {_cell(text)}{f' **No effect**: {reason}.' if reason else ''} |"


def _group(flag: Any) -> str:
    return str(flag.metadata["group"])


def _order(group: str) -> int:
    return list(dict.fromkeys(_group(flag) for flag in fields(ModelServerFlags))).index(group)


def _options() -> Iterator[str]:
    yield "# Options of pyserving\n"
    yield "Made from the code; `pyserving COMMAND --help` tells the same. What the commands are for stands in\n"
    yield "[Command line](../command-line.md) and [Client](../client.md).\n"
    context = click.Context(pyserving, info_name="pyserving")
    for name in pyserving.list_commands(context):
        command = pyserving.get_command(context, name)
        assert command is not None
        yield from _command(command, f"pyserving {name}", "##")


def _command(command: click.Command, path: str, heading: str) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"\n{heading} {path}\n\n```text\n{path} {usage}\n```\n"
    for paragraph in (command.help or "").split("\f")[0].replace("\b", "").split("\n\n"):
        yield f"{_plain(paragraph)}\n"
    rows = [(option, option.get_help_record(context)) for option in command.params if isinstance(option, click.Option)]
    shown = [record for option, record in rows if record and not option.hidden]
    if shown:
        yield "| option | |\n|---|---|"
        for names, text in shown:
            yield f"| `{_cell(names).replace('&lt;', '<')}` | {_cell(text)} |"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, f"{path} {name}", heading + "#")


def _plain(paragraph: str) -> str:
    return " ".join(paragraph.split()).replace("<", "&lt;")


def _api() -> Iterator[str]:
    yield "# Python API\n"
    yield "Made from the code. How it is used: [Client](../client.md), [Python servables](../python-servables.md).\n"
    for heading, names in API.items():
        yield f"\n## {heading}\n"
        for name in names:
            yield f"\n::: {name}\n" + ("    options:\n      members: false\n" if name in ALIKE else "")


def _message_fields(name: str) -> Iterator[str]:
    """A table of the fields of a message in pyserving.proto and their comments, and of the messages that these are."""
    messages = _read_messages(PROTO.read_text(encoding="utf-8"))
    waiting, done = [name], set()
    while waiting:
        message = waiting.pop(0)
        if message in done or message not in messages:
            continue
        done.add(message)
        about, rows = messages[message]
        anchor = "pyserving { ... }" if message == name else message
        yield f"\n### {anchor}\n\n{about}\n" + ("\n| field | type | |\n|---|---|---|" if rows else "")
        for field, kind, comment in rows:
            yield f"| `{field}` | {kind} | {_cell(comment)} |"
            waiting.append(kind.removeprefix("repeated "))


def _read_messages(text: str) -> dict[str, tuple[str, list[tuple[str, str, str]]]]:
    """By name: the comment before a message, and (field, type, comment) for each of its fields."""
    found: dict[str, tuple[str, list[tuple[str, str, str]]]] = {}
    comment: list[str] = []
    rows: list[tuple[str, str, str]] = []
    values: list[str] | None = None
    choice = ""
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
            continue
        if match := re.match(r"message (\w+) \{", line):
            found[match[1]] = (" ".join(comment), rows := [])
        elif match := re.match(r"enum (\w+) \{", line):
            values, enum = [], match[1]
            found[enum] = (" ".join(comment), [])
        elif match := re.match(r"oneof \w+ \{", line):
            choice = " ".join(["One of these.", *comment])
        elif values is not None and (match := re.match(r"(\w+) = \d+;", line)):
            values.append(f"`{match[1]}`")
        elif match := re.match(r"(repeated )?([\w.<>, ]+) (\w+) = \d+;", line):
            kind = (match[1] or "") + match[2].rpartition(".")[2]
            rows.append((match[3], kind, " ".join([*([choice] if choice else []), *comment])))
        elif line == "}":
            if values is not None:
                found[enum] = (found[enum][0] + " One of " + ", ".join(values) + ".", [])
                values = None
            choice = ""
        comment = []
    return found
