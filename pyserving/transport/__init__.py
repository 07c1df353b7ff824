"""Sockets and the protocols on them: HTTP/1.1, gRPC over HTTP/2. Knows no model."""
