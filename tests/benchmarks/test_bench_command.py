"""What ``python -m benchmarks`` measures, by its arguments."""

import pytest

pytest.importorskip("grpc")
pytest.importorskip("matplotlib")

from benchmarks.__main__ import plan_of
from benchmarks.suite import Case, Pace


def test_by_default_it_takes_about_a_quarter_of_an_hour() -> None:
    plan, _ = plan_of([])
    assert {"echo", "pyserving", "fastapi", "flask", "mlserver", "bentoml", "litserve", "ray"} <= {
        contender.key for contender in plan.contenders
    }
    assert plan.with_engine
    assert plan.expected_seconds() < 20 * 60


def test_all_is_every_workload_with_every_number_of_connections() -> None:
    plan, _ = plan_of(["--all"])
    assert Case("image8.b64", 64) in plan.cases
    assert Case("resnet50.grpc", 1) in plan.cases
    assert len(plan.cases) == 16 * 3


def test_a_selection() -> None:
    plan, _ = plan_of(
        ["--contenders", "fastapi,pyserving", "--workloads", "mnist.rest", "--connections", "2,4", "--rates", "10,20"]
    )
    assert [contender.key for contender in plan.contenders] == ["pyserving", "fastapi"]
    assert not plan.with_engine
    assert plan.cases == [Case("mnist.rest", 2), Case("mnist.rest", 4)]
    assert plan.paces == [Pace("mnist.rest", 10.0), Pace("mnist.rest", 20.0)]
    assert plan.models == ["mnist"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--contenders pyserving,torch", "no torch; there are engine, echo, pyserving"),
        ("--workloads gpt", "no gpt; there are half_plus_two.rest"),
        ("--connections many", "expected numbers"),
        ("--rounds 0", "at least 1 round"),
        ("--reference /nowhere/tensorflow_model_server", "no program /nowhere"),
    ],
)
def test_mistakes_are_told(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        plan_of(words.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
