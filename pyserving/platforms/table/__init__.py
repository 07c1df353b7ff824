"""Lookup tables: keys to rows, read from a file."""
