"""Blocks of code in a page, and the marks before them.

A mark is an HTML comment in the line before the block:

    <!-- file: NAME -->       the block is written to that file
    <!-- message: NAME -->    a proto block is a message of that type, not a models.config
    <!-- run by: PATH -->     that test reads the page and runs the block
    <!-- not run: REASON -->  it is not run, and this is why
"""

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>file|message|run by|not run): (?P<value>.*?) -->\n)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    page: Path
    line: int
    """Of its first line in the page."""
    language: str
    """Empty where the page names none."""
    text: str
    mark: str
    """What is before the colon of its mark; empty without one."""
    value: str
    """What is behind it."""
    after_a_block: bool
    """Only white space is between the block before and this one."""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    end = 0
    for match in _BLOCK.finditer(text):
        blocks.append(
            Block(
                page,
                text.count("\n", 0, match.start("text")) + 1,
                match["language"],
                "\n".join(line.removeprefix(match["indent"]) for line in match["text"].splitlines()) + "\n",
                match["mark"] or "",
                (match["value"] or "").strip(),
                bool(blocks) and not text[end : match.start()].strip(),
            )
        )
        end = match.end()
    assert text.count("```") == 2 * len(blocks), f"{page.name}: ``` begins or ends a line, and each has its other one"
    return blocks
