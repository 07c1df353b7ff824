"""What a model's config says of its replicas, without Ray."""

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.protos import messages
from pyserving.ray.options import (
    check_ingress_replicas,
    check_model,
    check_placement,
    deployment_name,
    deployment_options,
    max_replicas,
)
from pyserving.sources.model_config import ModelConfig


def model(name: str = "m", lazy: bool = False, **ray: float) -> ModelConfig:
    return ModelConfig(name, "/models/m", options=messages.ModelOptions(ray=messages.RayOptions(**ray), lazy=lazy))


def test_a_model_without_a_word_on_ray_has_one_replica_on_one_cpu() -> None:
    options = deployment_options(model())
    assert options["num_replicas"] == 1
    assert options["ray_actor_options"] == {"num_cpus": 1}
    assert max_replicas(model()) == 1


def test_the_number_of_replicas_follows_the_requests_between_two_limits() -> None:
    scaled = model(min_replicas=2, max_replicas=5, target_ongoing_requests=80, downscale_delay=3)
    options = deployment_options(scaled)
    assert options["autoscaling_config"] == {
        "min_replicas": 2,
        "max_replicas": 5,
        "target_ongoing_requests": 80,
        "downscale_delay_s": 3,
    }
    assert options["max_ongoing_requests"] == 160
    assert "num_replicas" not in options
    assert max_replicas(scaled) == 5


def test_names_that_ray_could_not_take_are_changed_and_stay_apart() -> None:
    assert deployment_name("m-1.x") == "model-m-1.x"
    assert deployment_name("a#b") != deployment_name("a/b")
    assert "#" not in deployment_name("a#b")


@pytest.mark.parametrize(
    ("unfit", "says"),
    [
        (model(num_cpus=-1), "num_cpus of 0 or more, got -1"),
        (model(target_ongoing_requests=float("nan")), "target_ongoing_requests of 0 or more, got nan"),
        (model(replicas=2, max_replicas=3), "either replicas, or min_replicas and max_replicas"),
        (model(min_replicas=3, max_replicas=2), "min_replicas of at most max_replicas, got 3 and 2"),
        (model(min_replicas=3), "min_replicas of at most max_replicas, got 3 and 0"),
        (model(replicas=4_000_000_000), "replicas of at most 10000, got 4000000000"),
        (model(min_replicas=1, max_replicas=20_000), "max_replicas of at most 10000, got 20000"),
        (model(num_gpus=1.5), "num_gpus of 1 or less, or a whole number, got 1.5"),
        (model(num_cpus=0.00001), "num_cpus of 0.0001 or more, got 1e-05"),
        (model(target_ongoing_requests=1e10), r"target_ongoing_requests of at most 1e\+06, got 1e\+10"),
        (model(lazy=True), "lazily"),
    ],
)
def test_what_cannot_be_is_refused(unfit: ModelConfig, says: str) -> None:
    with pytest.raises(ServingError, match="[Mm]odel m.*" + says) as refused:
        check_model(unfit)
    assert refused.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_an_ingress_with_no_replica_or_with_too_many_is_refused(count: int) -> None:
    check_ingress_replicas(1)
    with pytest.raises(ServingError, match=f"ingress_replicas of 1 to 10000, got {count}"):
        check_ingress_replicas(count)


def test_a_model_that_waits_to_be_promoted_has_to_name_its_default_version() -> None:
    options = messages.ModelOptions(gate=messages.GateOptions(manual=True))
    with pytest.raises(ServingError, match=r"Model m: with gate \{ manual: true \}, Ray needs traffic") as refused:
        check_model(ModelConfig("m", "/models/m", options=options))
    assert refused.value.code is Code.INVALID_ARGUMENT
    options.traffic.default_version = 3
    check_model(ModelConfig("m", "/models/m", options=options))


def test_an_ingress_that_fits_on_no_node_is_refused() -> None:
    nodes = [{"Alive": True, "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 4.0, "edge": 1.0}}]
    check_placement([model()], nodes, {"edge": 1})
    with pytest.raises(ServingError) as refused:
        check_placement([model()], nodes, {"edge": 2})
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert refused.value.message == (
        "No node can hold the ingress: it asks for 2 edge; the nodes have: 10.0.0.1 1 edge"
    )


def test_a_model_that_fits_on_no_node_is_refused_with_what_there_is() -> None:
    nodes = [
        {"Alive": True, "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 4.0, "memory": 8.0 * 2**30}},
        {"Alive": True, "NodeManagerAddress": "10.0.0.2", "Resources": {"CPU": 2.0, "GPU": 1.0, "memory": 2.0 * 2**30}},
        {"Alive": False, "NodeManagerAddress": "10.0.0.3", "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    check_placement([model(num_cpus=4), model(num_gpus=1)], nodes)
    with pytest.raises(ServingError) as refused:
        check_placement([model(num_cpus=3, num_gpus=1, memory=2**30)], nodes)
    assert refused.value.message == (
        "No node can hold a replica of model m: it asks for 3 CPUs, 1 GPUs, 1 GiB of memory; "
        "the nodes have: 10.0.0.1 4 CPUs, 0 GPUs, 8 GiB of memory; 10.0.0.2 2 CPUs, 1 GPUs, 2 GiB of memory"
    )
