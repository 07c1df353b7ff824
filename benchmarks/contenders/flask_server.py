"""Flask under gunicorn, with worker processes of several threads (gthread)."""

from flask import Flask, Response, jsonify, request
from saved_model import load_all

app = Flask(__name__)
models = load_all()


@app.post("/v1/models/<name>:predict")
def predict(name: str) -> Response:
    return jsonify(predictions=models[name].predict(request.get_json()["instances"]))
