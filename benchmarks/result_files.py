"""Where figures are left: ``benchmarks/results/NAME.md`` for people, ``NAME.json`` for programs."""

import json

from benchmarks.running import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def write_results(name: str, text: str, figures: object) -> None:
    """In place of those of an earlier run. ``text`` is Markdown, ``figures`` what JSON can hold."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text.removesuffix("\n") + "\n")
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
