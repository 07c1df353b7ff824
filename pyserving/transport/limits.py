"""What one HTTP client may use of the server: sizes, counts and times."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Sizes are in bytes, times in seconds."""

    max_head: int = 64 * 1024
    """Request line and headers together, chunked trailers likewise; 431 beyond."""
    max_headers: int = 128
    """Header lines of one request; 431 beyond."""
    max_body: int = 512 * 1024 * 1024
    """A body as announced, as received, and after gunzip; 413 beyond."""
    max_gzip_ratio: int = 200
    """Decompressed to compressed size, asked of bodies that decompress to more than ``gzip_ratio_from``; 413 beyond.
    deflate cannot do better than 1032; arrays of one repeated number reach about 1000, real data 2 to 20."""
    gzip_ratio_from: int = 16 * 1024 * 1024
    head_timeout: float = 20.0
    """From the first byte of a request to the end of its headers; 408 beyond."""
    body_timeout: float = 60.0
    """Between two arrivals of body bytes; 408 beyond. Also how far a body may be behind ``min_body_rate``."""
    min_body_rate: float = 200.0
    """Bytes per second, lest a byte a minute keeps a connection for ever."""
    idle_timeout: float = 75.0
    """Without a request, before the connection is closed. Longer than the 60 s of common load balancers: the one who
    closes first must be the client, else it sends requests into a closing connection."""
    send_timeout: float = 60.0
    """Without the client taking a byte of what it was answered, before the connection is aborted."""
    drain_wait: float = 0.5
    """After the drain began, how long a connection without a request stays open: the client cannot know yet, and what
    it sent a moment ago would be lost."""
    linger: float = 2.0
    """After a refusal, how long what the client still sends is read and thrown away, so that it sees the answer
    before it sees a reset."""
    max_pipelined: int = 16
    """Requests of one connection that run at the same time; reading pauses when so many wait for their answer."""
    max_connections: int | None = None
    """Open connections of one listener; 503 beyond. None: as many as there are file descriptors."""
