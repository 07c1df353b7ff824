"""Models run by OpenVINO on the CPU: its own files (IR), and SavedModels without TensorFlow."""
