"""deploy/kubernetes: kinds and fields by their schemas, and that the parts fit together and fit the server."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from manifests import DEPLOY, OVERLAYS, Manifest, only, overlay

from pyserving.cli.main import main
from pyserving.platforms.registry import find_platforms
from pyserving.sources.model_config import read_model_config_file

OF_KUBERNETES = {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1", "autoscaling/v2"}


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Manifest]:
    return overlay(request.param)


def container(objects: list[Manifest]) -> dict[str, Any]:
    (one,) = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(one)


@pytest.mark.kubernetes
def test_schemas_of_kubernetes(objects: list[Manifest]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    checked = 0
    for one in objects:
        if one["apiVersion"] in OF_KUBERNETES:
            for version in ("1.32", validate.latest_version()):
                validate.validate(one, version, strict=True)
            checked += 1
    assert checked == len(objects) - sum(one["kind"] == "ServiceMonitor" for one in objects)
    broken = json.loads(json.dumps(only(objects, "Deployment")).replace("failureThreshold", "failureTreshold"))
    with pytest.raises(validate.ValidationError, match="failureTreshold"):
        validate.validate(broken, "1.32", strict=True)


@pytest.mark.kubernetes
def test_schema_of_the_prometheus_operator() -> None:
    """The models of cloudcoil are generated from the operator's CRDs. They leave out what they do not know."""
    models = pytest.importorskip("cloudcoil.models.prometheus_operator.v1", reason="needs cloudcoil's models")
    monitor = only(overlay("production"), "ServiceMonitor")
    read = models.ServiceMonitor.model_validate(monitor)
    assert read.model_dump(by_alias=True, exclude_unset=True, mode="json") == monitor


def test_names_that_are_referred_to_are_there(objects: list[Manifest]) -> None:
    deployment = only(objects, "Deployment")
    pod = deployment["spec"]["template"]
    spec = pod["spec"]
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    ports = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
    labels = pod["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels
    assert ("ServiceAccount", spec["serviceAccountName"]) in names
    for service in (one for one in objects if one["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    assert only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels
    policy = only(objects, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports.keys()
    mounted = {mount["name"] for mount in container(objects)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in names
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(objects)[kind]["httpGet"]["port"] in ports


def test_the_server_takes_the_command(objects: list[Manifest], tmp_path: Path) -> None:
    words = [*container(objects)["command"], *container(objects)["args"]]
    command = main.get_command(click.Context(main), words[1])
    assert command is not None
    said = command.make_context(words[1], words[2:]).params
    mounts = {mount["mountPath"] for mount in container(objects)["volumeMounts"]}
    if said["config"]:
        (content,) = only(objects, "ConfigMap")["data"].items()
        assert said["config"] == f"/etc/pyserving/{content[0]}"
        (tmp_path / content[0]).write_text(content[1])
        (model,) = read_model_config_file(str(tmp_path / content[0]), platforms=find_platforms()) or ()
        assert model.base_path.startswith("s3://")
        assert {"/etc/pyserving", said["model_cache"]} <= mounts
    else:
        assert said["path"] in mounts
    assert {said["rest_port"], said["port"]} == {port["containerPort"] for port in container(objects)["ports"]}
    (cache,) = (one["value"] for one in container(objects)["env"] if one["name"] == "XDG_CACHE_HOME")
    assert cache in mounts


def test_there_is_time_for_the_stop(objects: list[Manifest]) -> None:
    words = container(objects)["args"]
    (grace,) = (float(word.partition("=")[2]) for word in words if word.startswith("--grace="))
    before = container(objects)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert only(objects, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > before + grace


def test_the_user_is_that_of_the_image(objects: list[Manifest]) -> None:
    """The restricted profile of the Pod Security Standards, and a root file system that is only read."""
    (user,) = re.findall(r"^USER (\d+)$", (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(objects)["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_one_service_has_no_address_of_its_own(objects: list[Manifest]) -> None:
    services = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "Service"}
    assert {name for name, spec in services.items() if spec.get("clusterIP") == "None"} == {"pyserving-pods"}
    assert services.keys() == {"pyserving", "pyserving-pods"}


def test_each_pod_is_scraped_once_under_the_job_of_the_alerts() -> None:
    objects = overlay("production")
    monitor = only(objects, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    (service,) = (one for one in objects if one["kind"] == "Service" and wanted <= one["metadata"]["labels"].items())
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    job = service["metadata"]["labels"][monitor["jobLabel"]]
    assert f'up{{job="{job}"}}' in (DEPLOY / "prometheus/rules.yml").read_text()
    annotations = only(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == endpoint["path"]
    assert int(annotations["prometheus.io/port"]) in {port["port"] for port in service["spec"]["ports"]}


def test_the_autoscaler_alone_says_how_many() -> None:
    objects = overlay("production")
    assert "replicas" not in only(objects, "Deployment")["spec"]
    scaled = only(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", only(objects, "Deployment")["metadata"]["name"])


def adapter_query(pods: str) -> tuple[str, str]:
    """The metric of prometheus-adapter's rule, and the query that the adapter makes of it for the autoscaler.

    As the adapter's documentation says: Series is the series' name, LabelMatchers the namespace and the pods, GroupBy
    the label that stands for pods.
    """
    (rule,) = yaml.safe_load((DEPLOY / "kubernetes/prometheus-adapter/values.yaml").read_text())["rules"]["custom"]
    series = rule["seriesQuery"].partition("{")[0]
    label = {spec["resource"]: name for name, spec in rule["resources"]["overrides"].items()}
    values = {
        "Series": series,
        "LabelMatchers": f'{label["namespace"]}="default",{label["pod"]}=~"{pods}"',
        "GroupBy": label["pod"],
    }
    return series, re.sub(r"<<\.(\w+)>>", lambda match: values[match[1]], rule["metricsQuery"])


def test_the_adapter_offers_what_the_autoscaler_asks_for() -> None:
    metrics = only(overlay("production"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    (pods,) = (metric["pods"] for metric in metrics if metric["type"] == "Pods")
    assert pods["metric"]["name"] == adapter_query("a")[0]
    assert pods["metric"]["name"] in (DEPLOY.parent / "docs/monitoring.md").read_text()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_the_adapters_query_counts_requests_of_each_pod(tmp_path: Path) -> None:
    """Two models in one pod add up; the mean is that of the last minute; other pods and namespaces do not count."""
    series, query = adapter_query("a|b")
    (tmp_path / "none.yml").write_text("groups: []\n")
    labels = 'namespace="default",pod="{}",model_name="{}"'
    test = {
        "rule_files": ["none.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": f"{series}{{{labels.format('a', 'm')}}}", "values": "100 100 4 8 4 8"},
                    {"series": f"{series}{{{labels.format('a', 'n')}}}", "values": "0 0 1 1 1 1"},
                    {"series": f"{series}{{{labels.format('b', 'm')}}}", "values": "0 0 0 0 0 0"},
                    {"series": f"{series}{{{labels.format('other', 'm')}}}", "values": "9 9 9 9 9 9"},
                    {"series": f'{series}{{namespace="x",pod="a",model_name="m"}}', "values": "9 9 9 9 9 9"},
                ],
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": "80s",
                        "exp_samples": [{"labels": '{pod="a"}', "value": 7}, {"labels": '{pod="b"}', "value": 0}],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    command = ["promtool", "test", "rules", "test.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
