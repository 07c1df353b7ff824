"""What a server is asked to show of its requests: access log, slow requests, traces."""

import logging
from dataclasses import dataclass

from pyserving.api.access import Access
from pyserving.core.errors import Code, ServingError
from pyserving.monitoring.metrics import Gauge, Labels, Registry
from pyserving.server.access_log import AccessLog, AccessLogFormat, SlowRequests
from pyserving.server.observer import Observer, Sink
from pyserving.server.tracing import Tracing, asked_by_environment, open_tracing

logger = logging.getLogger("pyserving.server")


@dataclass(frozen=True, slots=True)
class SeeingOptions:
    access_log: str = ""
    """Path of a file, or ``-`` for standard output; empty: none."""
    access_log_format: AccessLogFormat = AccessLogFormat.JSON
    slow_seconds: float | None = None
    """Requests that take longer are logged; None: none is."""
    tracing: bool | None = False
    """Make OpenTelemetry traces, as the environment variables OTEL_* say; None: if they ask for some, and it can be
    done."""


class Seeing:
    """What looks at the requests of this process. ``observer`` is None where nothing does."""

    def __init__(self, options: SeeingOptions, access: Access, registry: Registry, *, secure: bool) -> None:
        """``secure``: REST is served over TLS.

        Raises ServingError where the access log cannot be opened, or there is no OpenTelemetry.
        """
        sinks: list[Sink] = []
        self._access_log: AccessLog | None = None
        self._tracing: Tracing | None = _open_tracing(options.tracing, secure=secure)
        if options.access_log:
            self._access_log = log = _open_log(options)
            sinks.append(log.add)
            registry.add(Gauge("pyserving_access_log_lines_total", ["outcome"], lambda: _counts(log), only_grows=True))
        if options.slow_seconds is not None:
            sinks.append(SlowRequests(options.slow_seconds).add)
        self.observer: Observer | None = None
        if sinks or self._tracing:
            begin = None if self._tracing is None else self._tracing.begin
            self.observer = Observer(sinks, access.key_name, begin)

    def stop(self) -> None:
        """Writes what waits. To be called on a thread; nothing may come after."""
        if self._access_log is not None:
            self._access_log.stop()
        if self._tracing is not None:
            self._tracing.stop()


def _open_tracing(asked: bool | None, *, secure: bool) -> Tracing | None:
    if asked is not None:
        return open_tracing(secure=secure) if asked else None
    if not asked_by_environment():
        return None
    try:
        return open_tracing(secure=secure)
    except ServingError as error:
        # Clusters set these variables for all their programs: none of them is a reason not to serve.
        logger.warning("No traces are made, though OTEL_* variables ask for them: %s", error.message)
        return None


def _open_log(options: SeeingOptions) -> AccessLog:
    try:
        return AccessLog(options.access_log, options.access_log_format)
    except OSError as error:
        code = Code.PERMISSION_DENIED if isinstance(error, PermissionError) else Code.INVALID_ARGUMENT
        raise ServingError(code, f"cannot write the access log {options.access_log}: {error.strerror}") from None


def _counts(log: AccessLog) -> dict[Labels, float]:
    return {("written",): log.written, ("dropped",): log.dropped, ("failed",): log.failed}
