"""Whether versions that come and go leave memory or open files behind.

python -m benchmarks.memory [--rounds 50] [--small-rounds 1000] [--accelerated-rounds 200]
writes benchmarks/results/memory-*.{md,json}

ResNet50 is loaded and unloaded so many times in one server, then half_plus_two in another, then a small network for
images in a third, each time until another engine has taken it over; the resident memory (RSS) and the number of open
files are read after each unload. The first round starts threads and fills caches: what counts is
the growth since the second.
"""

import argparse
import json
import tempfile
from pathlib import Path

from rich.progress import track

from benchmarks.changing_model import ChangingServer, digits, resnet50, steady_base_path
from benchmarks.running import ROOT

RESULTS = ROOT / "benchmarks" / "results"

Rounds = list[tuple[float, int]]
"""After each unload: RSS in MB, open files."""


def load_and_unload(version: Path, rounds: int, what: str, *, accelerated: bool = False) -> Rounds:
    """The versions, copies of one folder, come and go in a server that serves another model all the time.

    ``accelerated``: each stays until another engine serves it.
    """
    results = []
    with (
        tempfile.TemporaryDirectory(prefix="acceleration-") as cache,
        ChangingServer(
            version, *(["--accelerate=auto", f"--acceleration-cache={cache}"] if accelerated else ())
        ) as server,
    ):
        for _ in track(range(rounds), what):
            server.add()
            if accelerated:
                server.accelerated()
            server.remove()
            results.append((server.resident_mb(), server.open_files()))
    return results


def growth(rounds: Rounds) -> float:
    """Of the RSS, from after the second round to after the last, as a share."""
    return rounds[-1][0] / rounds[1][0] - 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory after rounds of loading and unloading.")
    parser.add_argument("--rounds", type=int, default=50, help="of ResNet50")
    parser.add_argument("--small-rounds", type=int, default=1000, help="of half_plus_two")
    parser.add_argument("--accelerated-rounds", type=int, default=200, help="of the network for images of digits")
    given = parser.parse_args()
    for name, version, rounds, accelerated in (
        ("resnet50", resnet50(), given.rounds, False),
        ("half_plus_two", steady_base_path() / "1", given.small_rounds, False),
        ("mnist", digits(), given.accelerated_rounds, True),
    ):
        if rounds >= 2:
            report(name, load_and_unload(version, rounds, name, accelerated=accelerated))


def report(name: str, rounds: Rounds) -> None:
    lines = [f"| rounds of {name} | RSS, MB | open files |", "|---|---|---|"]
    for number, (resident, files) in enumerate(rounds, 1):
        if number <= 3 or number == len(rounds) or number % max(1, len(rounds) // 5) == 0:
            lines.append(f"| {number} | {resident:.0f} | {files} |")
    highest = max(resident for resident, _ in rounds)
    lines += ["", f"Growth of RSS since the second round: {growth(rounds):+.1%}; highest {highest:.0f} MB."]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"memory-{name}.md").write_text(text)
    (RESULTS / f"memory-{name}.json").write_text(json.dumps(rounds) + "\n")


if __name__ == "__main__":
    main()
