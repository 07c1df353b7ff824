"""A Ray Serve deployment.

python ray_server.py PORT
"""

import os
import sys
from typing import Any

import ray
from ray import serve
from saved_model import load_all
from starlette.requests import Request


@serve.deployment(num_replicas=int(os.environ["WORKERS"]), max_ongoing_requests=64)
class Models:
    def __init__(self) -> None:
        self._models = load_all()

    async def __call__(self, request: Request) -> dict[str, list[Any]]:
        body = await request.json()
        return {"predictions": self._models[body["model"]].predict(body["instances"])}


if __name__ == "__main__":
    ray.init(
        num_cpus=int(os.environ["WORKERS"]),
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {name: os.environ[name] for name in ("MODELS", "MODELS_FOLDER", "PYTHONPATH")}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"log_level": "WARNING"})
    serve.run(Models.bind(), route_prefix="/predict", blocking=True)
