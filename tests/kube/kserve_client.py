"""Asks half_plus_two as KServe's own clients do, and prints a line of JSON: run with REST's port and gRPC's.

In a process of its own: the messages that kserve brings have names that those of tritonclient have, too.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

NAME = "half-plus-two"


def request(values: list[float], *, binary: bool) -> InferRequest:
    given = InferInput("x", [len(values)], "FP32")
    given.set_data_from_numpy(np.array(values, np.float32), binary_data=binary)
    return InferRequest(NAME, [given], request_id="7")


async def by_v1(url: str) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        return {"v1": (await client.infer(url, {"instances": [1.0, 2.0]}, model_name=NAME))["predictions"]}


async def by_v2(url: str) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        answers = {}
        for way in ("binary", "json"):
            answer = await client.infer(url, request([1.0, 2.0], binary=way == "binary"), model_name=NAME)
            answers[f"v2 {way}"] = answer.outputs[0].as_numpy().tolist()
            assert (answer.model_name, answer.id) == (NAME, "7")  # it drops the version
        answers["v2 live"] = await client.is_server_live(url)
        answers["v2 ready"] = await client.is_server_ready(url)
        answers["v2 model ready"] = await client.is_model_ready(url, NAME)
        answers["v2 other model ready"] = await client.is_model_ready(url, "nothing")
        try:
            await client.infer(url, request([1.0], binary=False), model_name="nothing")
        except Exception as error:
            answers["v2 error"] = str(error)
        return answers


async def by_grpc(address: str) -> dict[str, Any]:
    async with InferenceGRPCClient(address) as client:
        answer = await client.infer(request([1.0, 2.0], binary=True))
        return {
            "grpc": answer.outputs[0].as_numpy().tolist(),
            "grpc live": await client.is_server_live(),
            "grpc ready": await client.is_server_ready(),
            "grpc model ready": await client.is_model_ready(NAME),
        }


async def main(rest: str, grpc: str) -> None:
    url = f"http://127.0.0.1:{rest}"
    print(json.dumps({**await by_v1(url), **await by_v2(url), **await by_grpc(f"127.0.0.1:{grpc}")}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
