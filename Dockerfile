# PyServing in the place of the image tensorflow/serving: the same ports, MODEL_NAME, MODEL_BASE_PATH and flags.
#
#   docker build -t pyserving .
#   docker run -p 8500:8500 -p 8501:8501 -v /srv/models:/models -e MODEL_NAME=half_plus_two pyserving
#
# --build-arg EXTRAS=tensorflow,tflite,onnx,openvino adds engines; EXTRAS=onnx has no TensorFlow at all.

FROM python:3.12-slim AS build
ARG EXTRAS=tensorflow
WORKDIR /src
RUN python -m venv /opt/pyserving
COPY pyproject.toml README.md LICENSE ./
COPY pyserving ./pyserving
RUN /opt/pyserving/bin/pip install --no-cache-dir ".[${EXTRAS}]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/pyserving pyserving && mkdir /models
COPY --from=build /opt/pyserving /opt/pyserving
COPY --chmod=755 deploy/tf_serving_entrypoint.sh /usr/bin/tf_serving_entrypoint.sh
# Where the image tensorflow/serving has it, and KServe's runtime for that image starts it.
RUN ln -s /opt/pyserving/bin/tensorflow_model_server /usr/bin/tensorflow_model_server
ENV PATH=/opt/pyserving/bin:$PATH MODEL_BASE_PATH=/models MODEL_NAME=model
EXPOSE 8500 8501
USER 10001
# The ports open when the models are there. With TLS or API keys, give `docker run` a --health-cmd of your own.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "from pyserving import Client; exit(not Client('grpc://localhost:8500').ready(timeout=5))"]
ENTRYPOINT ["/usr/bin/tf_serving_entrypoint.sh"]
