"""Bytes on a wire to and from numpy arrays: TensorProto, JSON."""
