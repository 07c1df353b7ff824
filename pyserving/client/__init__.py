"""Asks model servers: PyServing and TensorFlow Serving, over REST and gRPC."""
