"""FastAPI under uvicorn: an endpoint that is no coroutine, which FastAPI runs on its pool of threads, as its page on
concurrency says for work that blocks; pydantic models for the body and the answer."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from saved_model import load_all

app = FastAPI()
models = load_all()


class Request(BaseModel):
    instances: list[Any]


class Answer(BaseModel):
    predictions: list[Any]


@app.post("/v1/models/{name}:predict")
def predict(name: str, request: Request) -> Answer:
    return Answer(predictions=models[name].predict(request.instances))
