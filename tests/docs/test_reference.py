"""Pages that list what the code has list all of it, and nothing else: metrics, gRPC methods, HTTP statuses."""

import re
from pathlib import Path

from running_server import RunningServer

from pyserving.api.rest import HTTP_STATUS
from pyserving.core.errors import Code
from pyserving.sources.model_config import ModelConfig

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_METRIC = re.compile(r"(?<![\w:])(?:pyserving_[a-z_]+|:tensorflow:[a-z_:]+)")


def test_metrics_of_a_live_server_are_described(models_folder: Path) -> None:
    described = set(_METRIC.findall("\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))))
    server = RunningServer([ModelConfig("m", str(models_folder / "half_plus_two_tf2"))], open_inference_protocol=True)
    try:
        server.settled("m")
        server.post("m:predict", {"instances": [1.0]})
        shown = server._fetch("/monitoring/prometheus/metrics", None).decode()
    finally:
        server.stop()
    kinds = re.findall(r"^# TYPE (\S+) ", shown, re.MULTILINE)
    assert sorted({name for name in kinds if kinds.count(name) > 1}) == [], "one name, two metrics"
    assert len(kinds) > 20
    assert sorted(set(kinds) - described) == [], "describe these in docs/monitoring.md"


def test_metrics_that_are_described_are_in_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "pyserving").rglob("*.py"))
    pages = (DOCS / "monitoring.md").read_text(encoding="utf-8")
    listed = {name for line in re.findall(r"^\| (`.*?) \|", pages, re.MULTILINE) for name in _METRIC.findall(line)}
    assert len(listed) > 20
    gone = [name for name in listed if name not in code and name.rpartition(":")[2] not in code]
    assert sorted(gone) == [], "no metric is called so"


def test_every_grpc_method_is_named() -> None:
    page = (DOCS / "grpc.md").read_text(encoding="utf-8")
    missing = []
    for proto in (ROOT / "pyserving" / "protos").glob("*.proto"):
        text = proto.read_text(encoding="utf-8")
        (package,) = re.findall(r"^package ([\w.]+);", text, re.MULTILINE)
        for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            missing += [f"{package}.{service}"] if f"`{package}.{service}`" not in page else []
            methods = re.findall(r"rpc (\w+)", body)
            if not package.startswith(("grpc.", "inference")):  # those have pages of their own, here or elsewhere
                missing += [f"{service}.{method}" for method in methods if f"`{method}`" not in page]
    assert missing == []


def test_each_code_has_the_status_that_the_page_says() -> None:
    page = (DOCS / "rest.md").read_text(encoding="utf-8")
    said = {
        (name.strip(), status)
        for statuses, names in re.findall(r"^\| ([\d, ]+) \| ([A-Z_, ]+) \|", page, re.MULTILINE)
        for name, status in zip(
            names.split(","),
            [statuses] * len(names.split(",")) if "," not in statuses else statuses.split(","),
            strict=True,
        )
    }
    wanted = {(code.name, str(status)) for code, status in HTTP_STATUS.items() if code is not Code.OK}
    assert {(name, status.strip()) for name, status in said if name} == wanted
