"""Puts the parts together and runs them: settings, start, drain, logs."""
