#!/bin/sh
# Starts the server as the image tensorflow/serving does. Flags given to the container come last, and win.
exec tensorflow_model_server --port=8500 --rest_api_port=8501 \
    --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
