"""The few figures of a server that a person looks at, taken from all its metrics."""

from collections.abc import Iterable, Mapping

from pyserving.monitoring.metrics import Distribution, Family

_SERVING = ":tensorflow:serving:"


def summarise(families: Iterable[Family]) -> dict[str, object]:
    """Numbers since the start of the server, to be compared with earlier ones by who asks again; for JSON.

    ``requests``: by model, ``ok``, ``errors`` by the name of their code, and ``latency``: how many answers fell into
    each bucket of ``latency_bounds`` (microseconds; the last bucket has no limit) and their sum. Requests that ask no
    model to compute, as for a status, are left out of it. ``batches``: how many runs joined so many requests, in
    buckets of ``batch_bounds``. Memory (bytes) and CPU time are sums over all processes of the server. ``processes``:
    by model and version, of those that have processes of their own: how many are ``up``, and their ``restarts``.
    """
    by_name = {family.name: family for family in families}
    latency = by_name.get(_SERVING + "request_latency")
    batches = by_name.get("pyserving_batch_requests")
    return {
        "latency_bounds": [round(bound, 3) for bound in latency.bounds] if latency else [],
        "requests": _requests(by_name.get(_SERVING + "request_count"), latency),
        "batch_bounds": list(batches.bounds) if batches else [],
        "batches": _distribution(_total(batches)),
        "in_flight": _by_model(by_name.get("pyserving_requests_in_flight")),
        "memory_bytes": _sum(by_name.get("pyserving_resident_memory_bytes")),
        "cpu_seconds": _sum(by_name.get("pyserving_cpu_seconds_total")),
        "connections": _sum(by_name.get("pyserving_connections")),
        "start": _sum(by_name.get("pyserving_start_time_seconds")),
        "workers": _sum(by_name.get("pyserving_workers")),
        "model_memory_bytes": _sum(by_name.get("pyserving_model_memory_bytes")),
        "model_memory_limit_bytes": _sum(by_name.get("pyserving_model_memory_limit_bytes")),
        "lazy_loads": _by_model(by_name.get("pyserving_lazy_loads_total")),
        "evictions": _by_model(by_name.get("pyserving_evictions_total")),
        "processes": _processes(
            by_name.get("pyserving_model_process_up"), by_name.get("pyserving_model_process_restarts_total")
        ),
        "worker_restarts": _sum(by_name.get("pyserving_worker_restarts_total")),
    }


def _requests(counts: Family | None, latency: Family | None) -> dict[str, object]:
    ok: dict[str, float] = {}
    errors: dict[str, dict[str, float]] = {}
    for (name, status), value in (counts.values if counts else {}).items():
        if isinstance(value, Distribution):
            continue
        if status == "OK":
            ok[name] = value
        else:
            errors.setdefault(name, {})[status] = value
    times: dict[str, Distribution] = {}
    for (name, api, _), value in (latency.values if latency else {}).items():
        if api and isinstance(value, Distribution):
            times[name] = _added(times.get(name), value)
    return {
        name: {"ok": ok.get(name, 0), "errors": errors.get(name, {}), "latency": _distribution(times.get(name))}
        for name in sorted({*ok, *errors, *times} - {""})
    }


def _processes(up: Family | None, restarts: Family | None) -> dict[str, dict[str, dict[str, object]]]:
    processes: dict[str, dict[str, dict[str, object]]] = {}
    for key, family in (("up", up), ("restarts", restarts)):
        for (name, version), value in (family.values if family else {}).items():
            processes.setdefault(name, {}).setdefault(version, {})[key] = value
    return processes


def _total(family: Family | None) -> Distribution | None:
    total = None
    for value in (family.values if family else {}).values():
        if isinstance(value, Distribution):
            total = _added(total, value)
    return total


def _added(one: Distribution | None, other: Distribution) -> Distribution:
    if one is None:
        return other
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Distribution(counts, one.sum + other.sum)


def _distribution(value: Distribution | None) -> Mapping[str, object] | None:
    return None if value is None else {"counts": list(value.counts), "sum": value.sum}


def _by_model(family: Family | None) -> dict[str, float]:
    values = (family.values if family else {}).items()
    return {labels[0]: value for labels, value in values if not isinstance(value, Distribution)}


def _sum(family: Family | None) -> float:
    return sum(value for value in (family.values if family else {}).values() if not isinstance(value, Distribution))
