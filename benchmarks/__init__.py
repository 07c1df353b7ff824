"""Throughput and start-up, measured beside a floor in the same run: ``make bench``."""
