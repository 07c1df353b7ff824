"""TensorFlow Lite models, run by LiteRT's interpreter. Needs neither TensorFlow nor its converter."""
