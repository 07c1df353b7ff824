"""Runs the blocks of a page in their order, in a folder of their own.

Files come first, for a page may begin with what uses them. Then

- ``sh``, ``bash``: commands of ``pyserving`` in this process, those that serve in one of their own, all else by bash;
- ``json`` or ``text`` right behind: what they have printed;
- ``python``: in one namespace; a comment behind print() is what is printed;
- ``proto``: a models.config that is taken;
- ``yaml``, ``toml``: can be read, and so can commands of ``pyserving`` in them.
"""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from google.protobuf import text_format
from page_blocks import Block
from page_server import PageServer

from pyserving.cli.main import main
from pyserving.platforms.registry import find_platforms
from pyserving.protos import messages
from pyserving.sources.model_config import models_from_config

ROOT = Path(__file__).resolve().parents[2]
_SERVES = re.compile(r"(?:\S*/)?(?:pyserving serve|tensorflow_model_server)\b")
_OF_A_SHELL = re.compile(r"[|&;$`*]|<")


class PageRunner:
    """``server`` is started when a block needs one and none has started any."""

    def __init__(self, folder: Path, server: Callable[[], PageServer], monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._shared = server
        self._own: PageServer | None = None
        self._monkeypatch = monkeypatch
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._printed = ""
        self._has_files = False

    def close(self) -> None:
        if self._own is not None:
            self._own.stop()

    def write(self, block: Block) -> None:
        """Writes the file that a block is, if it is one."""
        if block.mark == "file":
            self._has_files = True
            path = self._folder / block.value
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")

    def run(self, block: Block) -> None:
        match block.mark, block.language:
            case "not run", _:
                assert len(block.value.split()) > 1, f"{block}: say why it is not run"
            case "run by", _:
                test = ROOT / block.value
                assert test.is_file(), f"{block}: there is no {block.value}"
                assert block.page.name in test.read_text(encoding="utf-8"), f"{block}: {test.name} does not read it"
            case "file", _:
                self._check(block)
            case "message", "proto":
                kind = getattr(messages, block.value)
                text_format.Parse(self._placed(block.text), kind(), descriptor_pool=messages.POOL)
            case _, "sh" | "bash":
                self._printed = "".join(self._command(command) for command in _commands(block.text))
            case _, "json" | "text" if block.after_a_block:
                if block.language == "json":
                    assert _values(self._printed) == _values(block.text), f"{block}: {self._printed}"
                else:
                    assert self._printed.split() == block.text.split(), f"{block}: {self._printed}"
            case _, "python":
                self._python(block)
            case _, "proto" | "yaml" | "toml":
                self._check(block)
            case _:
                language = block.language or "no language"
                raise AssertionError(f"{block}: a block of {language} is not run; say how, or why not: page_blocks.py")

    def _check(self, block: Block) -> None:
        text = self._placed(block.text)
        match block.language:
            case "proto":
                whole = text if "model_config_list" in text else f"model_config_list {{ {text} }}"
                config = text_format.Parse(whole, messages.ModelServerConfig(), descriptor_pool=messages.POOL)
                assert models_from_config(config, platforms=find_platforms())
            case "yaml":
                for command in _containers(list(yaml.safe_load_all(text))):
                    _parsed(command)
            case "toml":
                tomllib.loads(text)

    def _server(self) -> PageServer:
        server = self._own or self._shared()
        for name, port in (("GRPC_PORT", server.grpc), ("REST_PORT", server.rest)):
            self._monkeypatch.setattr(f"pyserving.client.address.{name}", port)
        return server

    def _placed(self, text: str) -> str:
        """With the ports of the server, and in this folder what the page has at the root of the file system."""
        if re.search(r"(localhost|127\.0\.0\.1)\b", text):
            server = self._server()
            for page, port in ((8501, server.rest), (8500, server.grpc)):
                text = re.sub(rf"(localhost|127\.0\.0\.1):{page}\b", rf"\g<1>:{port}", text)
        return re.sub(r"(?<![\w./}])/models\b", f"{self._folder}/models", text)

    def _command(self, command: str) -> str:
        """Runs it and returns what it has printed on standard output."""
        if _SERVES.match(command):
            self.close()
            self._own = None
            if command.strip().rpartition("/")[2] == "pyserving serve models" and not self._has_files:
                self._server()  # which was started by the same words
                return ""
            words = shlex.split(self._placed(command.partition(" #")[0]).replace("$PWD", str(self._folder)))
            self._own = PageServer(words, self._folder)
            return ""
        command = self._placed(command)
        if command.startswith("pyserving ") and not _OF_A_SHELL.search(command):
            words = shlex.split(command, comments=True)
            file = words[words.index(">") + 1] if ">" in words else None
            words = words[: words.index(">")] if file else words
            result = CliRunner().invoke(main, [*words[1:], *self._where(words)], catch_exceptions=False)
            assert result.exit_code == 0, f"{command}: {result.output}"
            if file is None:
                return result.stdout
            (self._folder / file).write_text(result.stdout)
            return ""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        line = f"set -euo pipefail\n{command}"
        environ = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self._folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _where(self, words: list[str]) -> list[str]:
        """Options by which a command that asks the server at 8501 by default finds this one."""
        command = main.get_command(click.Context(main), words[1])
        assert command is not None
        if any("--server" in option.opts for option in command.params) and "--server" not in words:
            return [f"--server=http://127.0.0.1:{self._server().rest}"]
        return []

    def _python(self, block: Block) -> None:
        text = self._placed(block.text)
        if "pyserving import" in text and "Client" in text:
            self._server()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, str(block), "exec"), self._names)
        for line in block.text.splitlines():
            code, _, comment = line.partition("  # ")
            if code.lstrip().startswith("print(") and comment:
                assert comment in printed.getvalue(), f"{block}: {printed.getvalue()}"


def _commands(text: str) -> Iterator[str]:
    """Commands of this package one by one, and what is between them as a whole."""
    others: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        if _SERVES.match(line) or line.startswith("pyserving "):
            if others:
                yield "\n".join(others)
            others = []
            yield line
        elif line.strip():
            others.append(line)
    if others:
        yield "\n".join(others)


def _values(text: str) -> list[Any]:
    """One JSON value, or one in each line."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line]


def _containers(tree: Any) -> Iterator[list[str]]:
    """Commands of containers, anywhere in what a YAML file says."""
    if isinstance(tree, dict):
        words = [*(tree.get("command") or []), *(tree.get("args") or [])]
        if words:
            yield words
        for value in tree.values():
            yield from _containers(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _containers(value)


def _parsed(words: list[str]) -> None:
    """Raises click.UsageError where a command of ``pyserving`` would."""
    if words[:1] == ["pyserving"]:
        command = main.get_command(click.Context(main), words[1])
        assert command is not None, words
        command.make_context(words[1], words[2:])
