"""The results as Markdown for people and as JSON for programs."""

import importlib.metadata
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.open_loop import PERCENTILES, Latencies
from benchmarks.rounds import ratio, spread
from benchmarks.servers import Sample
from benchmarks.suite import ENGINE, Case, Pace, Results
from benchmarks.workloads import WORKLOADS

OURS = "pyserving"
_ENOUGH_FOR_P99 = 100


def machine() -> dict[str, Any]:
    """What the figures depend on, and how busy it is with other things."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    total = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(total * 1024 / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "tensorflow": _tensorflow(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def labels(results: Results) -> dict[str, str]:
    """Of all that have a row, in the order of the rows."""
    found = {contender.key: contender.label for contender in results.plan.contenders}
    floors = {contender.key for contender in results.plan.contenders if contender.is_floor}
    engine = {ENGINE: "engine alone (floor)"} if results.plan.with_engine else {}
    return {**{key: found[key] for key in found if key in floors}, **engine, **found}


def markdown(results: Results, before: dict[str, Any], after: dict[str, Any]) -> str:
    plan = results.plan
    lines = [
        "# What `make bench` measured",
        "",
        f"{before['cores']} cores of {before['processor']}, {before['memory_gb']} GB, {before['system']}, "
        f"Python {before['python']}, TensorFlow {before['tensorflow']}. {plan.rounds} rounds of {plan.seconds:g} s; "
        f"load average {before['load_average']} before, {after['load_average']} after. "
        "How it is measured, and who the others are: `docs/performance.md`.",
        "",
        *_contenders(results),
        "",
        "Requests per second, the median:",
        "",
        *_overview(results, "requests_per_second"),
        "",
        "CPU time of the server per request, ms, the median:",
        "",
        *_overview(results, "cpu_ms_per_request"),
    ]
    for case in plan.cases:
        note = WORKLOADS[case.workload].note
        lines += ["", f"### {case}", "", f"{note[:1].upper()}{note[1:]}.", "", *_case(results, case)]
    for pace in plan.paces:
        lines += ["", f"### {pace}", "", *_pace(results, pace)]
    return "\n".join(lines) + "\n"


def _contenders(results: Results) -> list[str]:
    rows = []
    for contender in results.plan.contenders:
        versions = ", ".join(f"{name} {version}" for name, version in results.versions.get(contender.key, {}).items())
        idle, start = results.idle_shares.get(contender.key), results.start_seconds.get(contender.key)
        reason = results.not_available.get(contender.key)
        rows.append(
            [
                contender.label,
                f"not available: {reason}" if reason else contender.note,
                versions,
                "" if start is None else number(start),
                "" if idle is None else f"{idle * 100:.0f} %",
            ]
        )
    return table(["", "what it is", "versions", "s to first answer", "CPU when idle"], rows, numbers_from=3)


def _overview(results: Results, figure: str) -> list[str]:
    """One figure of all in all cases; and the memory with all models loaded."""
    rows = []
    for key, label in labels(results).items():
        measured = {case: summary(results, case, key) for case in results.plan.cases if (case, key) in results.samples}
        if measured:
            cells = [number(measured[case][figure]) if case in measured else "" for case in results.plan.cases]
            rows.append([label, *cells, f"{max(found['resident_mb'] for found in measured.values()):,.0f}"])
    return table(["", *(f"{case.workload} {case.connections}" for case in results.plan.cases), "RSS MB, at most"], rows)


def _case(results: Results, case: Case) -> list[str]:
    header = ["", "requests/s", "lowest to highest", "PyServing ÷ it", "p50 ms", "p99 ms", "CPU ms per request",
              "RSS MB", "failed"]  # fmt: skip
    rows = []
    for key, label in labels(results).items():
        if error := results.errors.get((case, key)):
            rows.append([label, f"error: {error}", *[""] * 7])
        elif samples := results.samples.get((case, key)):
            figures = summary(results, case, key)
            rows.append(
                [
                    label,
                    number(figures["requests_per_second"]),
                    f"{number(figures['lowest'])} to {number(figures['highest'])}",
                    number(figures["pyserving_to_it"]),
                    number(figures["p50_ms"]),
                    number(figures["p99_ms"]),
                    number(figures["cpu_ms_per_request"]),
                    f"{figures['resident_mb']:,.0f}",
                    str(sum(sample.load.failed for sample in samples)),
                ]
            )
    return table(header, rows)


def _pace(results: Results, pace: Pace) -> list[str]:
    rows = []
    for key, label in labels(results).items():
        if error := results.errors.get((pace, key)):
            rows.append([label, f"error: {error}", *[""] * (len(PERCENTILES) + 1)])
        elif found := results.latencies.get((pace, key)):
            figures = pace_summary(found)
            cells = [number(figures[f"p{percent:g}_ms"]) for percent in PERCENTILES]
            rows.append([label, *cells, number(figures["max_ms"]), str(figures["failed"])])
    return table(["ms, waiting included", *(f"p{percent:g}" for percent in PERCENTILES), "max", "failed"], rows)


def summary(results: Results, case: Case, key: str) -> dict[str, float]:
    """One contender's figures over all rounds."""
    samples = results.samples[case, key]
    ours = results.samples.get((case, OURS), [])
    rates = spread([sample.requests_per_second for sample in samples])
    comparable = len(ours) == len(samples) and rates.lowest > 0
    return {
        "requests_per_second": rates.median,
        "lowest": rates.lowest,
        "highest": rates.highest,
        "pyserving_to_it": ratio(_rates(ours), _rates(samples)) if comparable else math.nan,
        "p50_ms": _median([sample.load.p50_ms for sample in samples if sample.load.requests]),
        "p99_ms": _median([sample.load.p99_ms for sample in samples if sample.load.requests >= _ENOUGH_FOR_P99]),
        "cpu_ms_per_request": _median([sample.cpu_ms_per_request for sample in samples if sample.load.requests]),
        "resident_mb": samples[-1].resident_mb,
        "processes": samples[-1].processes,
    }


def pace_summary(rounds: Sequence[Latencies]) -> dict[str, float]:
    """Percentiles in ms of all rounds' requests together; infinite where an answer did not come."""
    seconds = np.concatenate([found.seconds for found in rounds])
    values = np.percentile(seconds, PERCENTILES, method="higher")
    return {
        **{f"p{percent:g}_ms": float(value) * 1e3 for percent, value in zip(PERCENTILES, values, strict=True)},
        "max_ms": float(seconds.max()) * 1e3,
        "requests": len(seconds),
        "failed": sum(int(found.failed.sum()) for found in rounds),
    }


def as_json(results: Results, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """All figures of all rounds; numbers that are none (no answer came) are null."""
    found: dict[str, Any] = _finite(
        {
            "machine": {"before": before, "after": after},
            "rounds": results.plan.rounds,
            "seconds": results.plan.seconds,
            "contenders": {
                contender.key: {
                    "label": contender.label,
                    "note": contender.note,
                    "versions": results.versions.get(contender.key, {}),
                    "start_seconds": results.start_seconds.get(contender.key),
                    "idle_cpu_share": results.idle_shares.get(contender.key),
                    "not_available": results.not_available.get(contender.key),
                }
                for contender in results.plan.contenders
            },
            "closed_loop": [
                {
                    "workload": case.workload,
                    "connections": case.connections,
                    "contender": key,
                    **summary(results, case, key),
                    "samples": [_sample(sample) for sample in samples],
                }
                for (case, key), samples in results.samples.items()
            ],
            "open_loop": [
                {"workload": pace.workload, "rate": pace.rate, "contender": key, **pace_summary(found)}
                for (pace, key), found in results.latencies.items()
            ],
            "errors": [
                {"case": str(asked), "contender": key, "error": error} for (asked, key), error in results.errors.items()
            ],
        }
    )
    return found


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> list[str]:
    """A table in Markdown; the columns from ``numbers_from`` on are set to the right."""
    rule = ["---" if column < numbers_from else "---:" for column in range(len(header))]
    cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return [f"| {' | '.join(row)} |" for row in (header, rule, *cells)]


def number(value: float) -> str:
    """Three significant digits, as people write them; a dash for none."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _rates(samples: Sequence[Sample]) -> list[float]:
    return [sample.requests_per_second for sample in samples]


def _median(values: Sequence[float]) -> float:
    return spread(values).median if values else math.nan


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        **asdict(sample.load),
        "cpu_seconds": sample.cpu_seconds,
        "resident_mb": sample.resident_mb,
        "processes": sample.processes,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _tensorflow() -> str | None:
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
