"""A LitServe API with its batching: a worker waits 10 ms for up to eight requests (without a wait it would spin).

python litserve_server.py PORT
"""

import itertools
import os
import sys
from collections import defaultdict
from typing import Any

import litserve
import numpy as np
from saved_model import from_json, load_all, to_json

Request = tuple[str, list[Any]]


class Models(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self._models = load_all()

    def decode_request(self, request: dict[str, Any]) -> Request:
        return request["model"], from_json(request["instances"])

    def batch(self, inputs: list[Request]) -> list[Request]:
        return inputs

    def predict(self, inputs: list[Request]) -> list[list[Any]]:
        """The requests for one model share a call."""
        by_model = defaultdict(list)
        for position, (model, _) in enumerate(inputs):
            by_model[model].append(position)
        answers: list[list[Any]] = [[]] * len(inputs)
        for model, positions in by_model.items():
            rows = [inputs[position][1] for position in positions]
            output = self._models[model]([*itertools.chain(*rows)])
            parts = np.split(output, np.cumsum([len(some) for some in rows])[:-1])
            for position, part in zip(positions, parts, strict=True):
                answers[position] = to_json(part)
        return answers

    def unbatch(self, output: list[list[Any]]) -> list[list[Any]]:
        return output

    def encode_response(self, output: list[Any]) -> dict[str, list[Any]]:
        return {"predictions": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Models(max_batch_size=8, batch_timeout=0.01),
        accelerator="cpu",
        workers_per_device=int(os.environ["WORKERS"]),
        timeout=120,
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
