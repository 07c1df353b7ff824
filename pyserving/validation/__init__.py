"""Recorded requests, and whether answers to them are those that are expected.

The gate of a server, shadow traffic and ``pyserving replay`` judge answers by the same code: this one.
"""
