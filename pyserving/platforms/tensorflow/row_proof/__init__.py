"""Proves of a graph that each row of what it computes depends on that row of what it is fed, and on no other."""
