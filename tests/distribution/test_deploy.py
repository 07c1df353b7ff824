"""deploy/: what runs the server and what watches it. Names of metrics are those of a live page."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from serving import Serving

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
NAME = re.compile(r"(?<![\w:])(?::tensorflow:[\w:]+|pyserving_\w+)")
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/pyserving.json").read_text())

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


@pytest.fixture(scope="module")
def metrics(models_folder: Path) -> set[str]:
    """The names of all series that a server shows which has a model, workers, and answered requests."""
    server = Serving(str(models_folder / "half_plus_two_tf2"), "--workers=2").wait_until_ready()
    try:
        assert server.post_json("/v1/models/half_plus_two_tf2:predict", {"instances": [1.0]})[0] == 200
        url = f"http://127.0.0.1:{server.rest}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            page = answer.read().decode()
    finally:
        server.stop()
    names = set(re.findall(r"^([\w:]+)\{", page, re.MULTILINE))
    families = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE))
    for name, kind in families.items():  # a family without a series yet has its name only
        names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    return names


def expressions_of_dashboard() -> list[str]:
    queries = [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"][1:]]
    return queries + [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def expressions_of_rules() -> list[str]:
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "expressions", [expressions_of_dashboard(), expressions_of_rules()], ids=["dashboard", "rules"]
)
def test_every_metric_is_on_the_page(metrics: set[str], expressions: list[str]) -> None:
    named = {name for text in expressions for name in NAME.findall(text)}
    assert len(named) > 5
    assert sorted(named - metrics) == []


@promtool
@pytest.mark.parametrize("arguments", [["check", "rules", "rules.yml"], ["check", "config", "prometheus.yml"]])
def test_promtool_takes_them(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_alerts_are_raised_when_they_should_be() -> None:
    """rules_test.yml names every alert twice: when all is well, and when it is not."""
    tests = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    for test in tests:
        assert {one["alertname"] for one in test["alert_rule_test"]} == alerts
    command = ["promtool", "test", "rules", "rules_test.yml"]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_the_queries_of_the_dashboard_are_promql(tmp_path: Path) -> None:
    """Each is made a rule, with Grafana's variables filled in."""
    filled = [
        text.replace("$__rate_interval", "1m").replace("$model", ".*").replace("$instance", ".*")
        for text in expressions_of_dashboard()
        if not text.startswith("label_values")
    ]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(filled)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    command = ["promtool", "check", "rules", "--lint=none", tmp_path / "rules.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_files_that_compose_mounts_are_there() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for name in ("prometheus", "grafana") for volume in services[name]["volumes"]]
    assert [path for path in mounted if not (DEPLOY / path).is_dir()] == []
    assert (DEPLOY / services["pyserving"]["build"] / "Dockerfile").is_file()
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == ["pyserving:8501"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "pyserving.service").read_text()
    program = shutil.which("pyserving", path=str(Path(sys.executable).parent)) or "/bin/true"
    unit = tmp_path / "pyserving.service"
    unit.write_text(text.replace("/opt/pyserving/bin/pyserving", program))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_the_unit_starts_the_command_with_options_that_it_has() -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", (DEPLOY / "pyserving.service").read_text(), re.MULTILINE)
    command = [sys.executable, "-m", "pyserving.cli.main", *line.split()[1:], "--help"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
