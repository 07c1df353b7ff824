"""The kinds of servable: for each a Loader and an engine that executes signatures on tensors."""
