"""A BentoML service: ``bentoml serve``."""

import os
from typing import Any

import bentoml
from saved_model import load_all


@bentoml.service(workers=int(os.environ["WORKERS"]))
class Models:
    def __init__(self) -> None:
        self._models = load_all()

    @bentoml.api(route="/predict")
    def predict(self, model: str, instances: list[Any]) -> dict[str, list[Any]]:
        return {"predictions": self._models[model].predict(instances)}
