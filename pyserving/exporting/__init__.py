"""From a model that somebody has trained to a version folder that servers load."""
