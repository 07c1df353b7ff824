"""How long the client of a REST request will wait: the header ``Grpc-Timeout``, as grpc-gateway takes it too."""

import re

from pyserving.core.errors import invalid_argument

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])", re.A)
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def read_timeout(text: str) -> float:
    """In seconds. gRPC's format: up to eight digits and a unit, ``200m`` for 200 ms. Raises INVALID_ARGUMENT."""
    match = _TIMEOUT.fullmatch(text.strip())
    if match is None:
        raise invalid_argument(f"Expected Grpc-Timeout as digits and one of H, M, S, m, u, n, such as 200m; got {text}")
    return int(match[1]) * _SECONDS[match[2]]
