"""Whether versions that come and go leave memory or open files behind.

python -m benchmarks.memory [--rounds 50] [--small-rounds 1000] [--accelerated-rounds 200] [--isolated-rounds 200]
writes benchmarks/results/memory-*.{md,json}

ResNet50 is loaded and unloaded so many times in one server, then half_plus_two in another, then a small network for
images in a third, each time until another engine has taken it over; at last half_plus_two once more, each version in a
process of its own. The resident memory (RSS) of the server's process and the number of its open files are read after
each unload. The first round starts threads and fills caches: what counts is the growth since the second.
"""

import argparse
import tempfile
from pathlib import Path

from rich.progress import track

from benchmarks.changing_model import ChangingServer, digits, resnet50, steady_base_path
from benchmarks.result_files import write_results

ISOLATED = "isolation: PROCESS"

Rounds = list[tuple[float, int]]
"""After each unload: RSS in MB, open files."""


def load_and_unload(version: Path, rounds: int, what: str, *, accelerated: bool = False, options: str = "") -> Rounds:
    """The versions, copies of one folder, come and go in a server that serves another model all the time.

    ``accelerated``: each stays until another engine serves it. ``options``: the model's ModelOptions, as text.
    """
    results = []
    with (
        tempfile.TemporaryDirectory(prefix="acceleration-") as cache,
        ChangingServer(
            version,
            *(["--accelerate=auto", f"--acceleration-cache={cache}"] if accelerated else ()),
            options=options,
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
    parser.add_argument("--isolated-rounds", type=int, default=200, help="of half_plus_two in processes of its own")
    given = parser.parse_args()
    small = steady_base_path() / "1"
    if given.rounds >= 2:
        report("resnet50", load_and_unload(resnet50(), given.rounds, "resnet50"))
    if given.small_rounds >= 2:
        report("half_plus_two", load_and_unload(small, given.small_rounds, "half_plus_two"))
    if given.accelerated_rounds >= 2:
        report("mnist", load_and_unload(digits(), given.accelerated_rounds, "mnist", accelerated=True))
    if given.isolated_rounds >= 2:
        report("isolated", load_and_unload(small, given.isolated_rounds, "isolated", options=ISOLATED))


def report(name: str, rounds: Rounds) -> None:
    lines = [f"| rounds of {name} | RSS, MB | open files |", "|---|---|---|"]
    for number, (resident, files) in enumerate(rounds, 1):
        if number <= 3 or number == len(rounds) or number % max(1, len(rounds) // 5) == 0:
            lines.append(f"| {number} | {resident:.0f} | {files} |")
    highest = max(resident for resident, _ in rounds)
    lines += ["", f"Growth of RSS since the second round: {growth(rounds):+.1%}; highest {highest:.0f} MB."]
    text = "\n".join(lines) + "\n"
    print(text)
    write_results(f"memory-{name}", text, rounds)


if __name__ == "__main__":
    main()
