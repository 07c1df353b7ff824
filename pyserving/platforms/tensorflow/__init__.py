"""TensorFlow models, run through TensorFlow's C API: the ``tensorflow`` package itself is never imported."""
