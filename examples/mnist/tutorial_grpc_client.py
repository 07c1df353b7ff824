"""Asks for each digit by itself, with tensorflow_serving.apis:  python tutorial_grpc_client.py HOST:PORT

Several requests are under way at a time, as in TensorFlow Serving's mnist_client.py.
"""

import sys

import grpc
import numpy as np
import tensorflow as tf
from digits import TEST
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

COUNT = 200

stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(sys.argv[1]))
futures = []
for image in TEST.images[:COUNT]:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mnist"
    request.model_spec.signature_name = "serving_default"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(image[None]))
    futures.append(stub.Predict.future(request, 10.0))
found = [np.argmax(future.result().outputs["output_0"].float_val) for future in futures]
print(f"Inference error rate: {np.mean(found != TEST.labels[:COUNT]):.1%}")
