"""What the server counts and times, and the text in which Prometheus reads it."""
