"""HTTP/2 (RFC 9113) for servers: connections on asyncio, streams on connections. All use of ``ngh2`` is in this module.

A protocol on top of HTTP/2 subclasses Http2Connection and StreamEvents. Everything that one ``data_received`` leads to
leaves in one write; what happens later (an answer that had to wait) is written once per turn of the event loop.

Traps of ngh2 0.3, each dealt with below:

- A fatal error in ``receive_data`` (bad preface, header list over the limit) frees the session, so ngh2 has no
  GOAWAY to send: this module writes its own.
- Events describe what was received, not what holds now: when one read brings a request and its RST_STREAM, sending on
  that stream raises although its StreamReset event was not seen yet.
- ``reset_stream`` overtakes queued frames of the same stream (nghttp2 drops them), so the reset that follows an early
  answer has to wait until that answer was taken by ``data_to_send``.
- ``data_to_send`` produces events, too: StreamClosed of an answered stream, ConnectionClosed.
- Bytes of DATA frames are delivered when the frame is complete.
- Received bytes are acknowledged by this module, not by ngh2, so that a stream whose bytes nobody takes holds its
  sender back. Those of a closed stream must be, too, else the connection's window shrinks for good.
- nghttp2 ends a connection with too many resets by INTERNAL_ERROR; RFC 9113 means ENHANCE_YOUR_CALM for this. So its
  limit is turned off and resets are counted here.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import ngh2
from ngh2 import DataReceived, RequestReceived, StreamClosed

from pyserving.transport.listener import Connection, Connections

logger = logging.getLogger("pyserving.transport")

Headers = Sequence[tuple[bytes, bytes]]

NO_ERROR = int(ngh2.ErrorCode.NO_ERROR)
CANCEL = int(ngh2.ErrorCode.CANCEL)

_SLICE = 256 * 1024
"""Bytes framed ahead of the socket: a peer that reads slowly costs no more than this and the transport's buffer."""
_READ_WHILE_BLOCKED = 1024 * 1024
"""Bytes still read from a peer that reads nothing: its window updates and resets matter, its requests can wait."""
_DRAIN_ROUND_TRIP = 1.0
"""Seconds a peer gets to acknowledge a shutdown notice before it is told the last stream."""
_PING_DRAIN = b"drain..."
_PING_ALIVE = b"alive..."
_UNLIMITED = 1 << 62
_PEER_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HTTP1_REQUEST = re.compile(rb"(?!PRI )[A-Z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits:
    """Bounds on what one peer can make a connection hold or do. Sizes in bytes, times in seconds."""

    max_concurrent_streams: int = 1000
    max_header_list: int = 16 * 1024
    """Told to the peer; a list of more than four times this ends the connection."""
    stream_window: int = 8 * 1024 * 1024
    connection_window: int = 64 * 1024 * 1024
    max_frame_size: int = 16 * 1024
    """Of what the peer sends."""
    max_queued: int = 64 * 1024 * 1024
    """Answers of a connection that wait for the peer's windows: beyond this, new requests wait."""
    preface_timeout: float = 10.0
    """From the connection to the peer's first SETTINGS."""
    keepalive_time: float | None = 120.0
    """Silence after which the peer is asked for a sign of life (a PING)."""
    keepalive_timeout: float = 20.0
    idle_timeout: float | None = None
    """A connection without a stream for so long, at most twice as long, is drained."""
    max_age: float | None = None
    """A connection is drained at this age, give or take a tenth, lest many that began together end together."""
    max_age_grace: float | None = None
    """What its streams then get to end before they are cut off; None: as long as they take."""
    reset_burst: int = 1000
    """Streams a peer may reset at once ..."""
    reset_rate: float = 200.0
    """... and per second from then on."""
    send_timeout: float = 60.0
    """Without the peer taking a byte of what it was sent, before the connection is aborted; looked at as seldom."""
    max_connections: int | None = None
    """Open connections of one listener; one more is told so and closed. None: as many as there are descriptors."""


class StreamEvents:
    """What happens on one stream, told to the protocol on top of HTTP/2."""

    __slots__ = ()

    def data_received(self, data: bytes, end: bool) -> None:
        """Bytes of the body; ``end``: they were the last. Trailers of the peer are an empty last piece."""
        raise NotImplementedError

    def closed(self) -> None:
        """Nothing more comes and nothing more can be sent: both sides ended, one side reset, or connection lost."""
        raise NotImplementedError


class Stream:
    """One request and its answer. Sending on a stream that is gone does nothing: its ``closed`` event is on its way."""

    __slots__ = ("_connection", "_h2", "ended", "events", "id", "kept")

    def __init__(self, connection: "Http2Connection", h2: ngh2.Connection, stream_id: int, ended: bool) -> None:
        self.id = stream_id
        self.events: StreamEvents
        self._connection = connection
        self._h2 = h2
        self.ended = ended
        """Whether the peer sent all it has to send."""
        self.kept: int | None = None
        """Received bytes that keep the peer's window small; None: what comes does not."""

    @property
    def unsent(self) -> int:
        """Bytes of the body that wait for the peer's window, or for the socket."""
        return self._h2.queued_body_size(self.id)

    def keep_window(self) -> None:
        """From now on what comes makes the peer's window smaller, until it is acknowledged."""
        self.kept = 0

    def acknowledge(self, but: int = 0) -> None:
        """All bytes received up to now were taken, ``but`` so many: the peer may send that much more."""
        if self.kept is not None and self.kept > but:
            taken = self.kept - but
            self.kept = but
            try:
                self._h2.acknowledge_received_data(taken, self.id)
            except ngh2.ConnectionStateError:  # it is being closed
                return
            self._connection.wake()

    def give_window(self) -> None:
        """The opposite of ``keep_window``: nobody will take what still comes."""
        self.acknowledge()
        self.kept = None

    def send_headers(self, headers: Headers, *, end: bool = False) -> None:
        """``end``: no body follows. Where the peer still sends, it is then told to stop."""
        try:
            self._h2.send_response(self.id, headers, end_stream=end)
        except (ngh2.StreamProtocolError, ngh2.ConnectionStateError):
            return
        if end and not self.ended:
            self._connection.reset_when_sent(self.id)
        self._connection.wake()

    def send_data(self, data: bytes) -> None:
        try:
            self._h2.send_data(self.id, data)
        except (ngh2.StreamProtocolError, ngh2.ConnectionStateError):
            return
        self._connection.wake()

    def send_trailers(self, headers: Headers) -> None:
        """Ends the stream once the data before them was sent. Where the peer still sends, it is then told to stop."""
        try:
            self._h2.send_trailers(self.id, headers)
        except (ngh2.StreamProtocolError, ngh2.ConnectionStateError):
            return
        if not self.ended:
            self._connection.reset_when_sent(self.id)
        self._connection.wake()


class Http2Connection(Connection):
    """One HTTP/2 connection, seen from the server. Subclasses say what a request is."""

    def __init__(self, connections: Connections, limits: Http2Limits) -> None:
        self._connections = connections
        self._http2_limits = limits
        self._h2 = ngh2.Connection(ngh2.Role.SERVER, _configuration(limits))
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        self._to_reset: list[int] = []
        self._resets = float(limits.reset_burst)
        self._resets_at = 0.0
        self._corked = False  # inside a callback that ends with a flush
        self._flush_due = False
        self._write_paused = False
        self._read_while_blocked = 0
        self._read_paused = False
        self._heard = False
        self._preface = b""  # ours, until it is sent
        self._preface_missing = len(_PEER_PREFACE)
        self._settled = False  # the peer's SETTINGS came
        self._draining = False
        self._final_goaway_sent = False
        self._closing = False
        self._last_stream_at_tick = 0
        self._unsent_at_tick = 0
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._loop: asyncio.AbstractEventLoop
        self._transport: asyncio.Transport

    # What a subclass says and may use

    def request_received(self, stream: Stream, headers: Headers, end: bool) -> StreamEvents:
        """A request's headers, pseudo-headers first. Returns whom to tell what happens next on its stream."""
        raise NotImplementedError

    def output_taken(self) -> None:
        """What was queued has shrunk; see ``output_full``."""

    @property
    def output_full(self) -> bool:
        """Whether so many bytes wait for the peer's windows that no further answer should be made."""
        return self._h2.queued_body_size() > self._http2_limits.max_queued

    def wake(self) -> None:
        """Something was queued: sees that it is written in this turn of the loop."""
        if not self._corked and not self._flush_due and not self._closing:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def reset_when_sent(self, stream_id: int) -> None:
        """The answer is complete but the request is not: stops the peer from sending the rest (RFC 9113, 8.1)."""
        self._to_reset.append(stream_id)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        limits = self._http2_limits
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it
        self._h2.initiate_connection(
            {
                ngh2.Setting.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
                ngh2.Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
                ngh2.Setting.MAX_FRAME_SIZE: limits.max_frame_size,
                ngh2.Setting.MAX_HEADER_LIST_SIZE: limits.max_header_list,
            }
        )
        self._h2.set_local_window_size(limits.connection_window)
        self._preface = self._h2.data_to_send()
        self._call_later(limits.preface_timeout, self._preface_late)
        if limits.keepalive_time is not None:
            self._call_later(limits.keepalive_time, self._check_alive)
        if limits.idle_timeout is not None:
            self._call_later(limits.idle_timeout, self._check_idle)
        if limits.max_age is not None:
            self._call_later(limits.max_age * random.uniform(0.9, 1.1), self._end_of_age)
        self._call_later(limits.send_timeout, self._check_sent)
        self._connections.add(self)
        if limits.max_connections is not None and len(self._connections) > limits.max_connections:
            self._transport.write(self._preface + _goaway(0, ngh2.ErrorCode.ENHANCE_YOUR_CALM, b"too many connections"))
            self._preface = b""
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._heard = True
        self._corked = True
        try:
            self._h2.receive_data(data)
        except ngh2.NGH2Error as error:
            self._fail(error, data)
            return
        self._dispatch()
        if self._preface:
            # Nothing is said before the peer's preface was seen whole: who speaks HTTP/1.1 must get a clean answer.
            self._preface_missing -= len(data)
            if self._preface_missing > 0:
                return
            self._send_preface()
        self._corked = False
        if not self._flush_due:
            self._flush_due = True
            self._connections.write_turn.join(self._flush)
        if self._write_paused and not self._read_paused:
            self._read_while_blocked += len(data)
            if self._read_while_blocked > _READ_WHILE_BLOCKED and not self._closing:
                self._read_paused = True
                self._transport.pause_reading()

    def eof_received(self) -> None:
        """The transport closes: a client that sends no more frames can take no answer, for want of window updates."""
        if self._flush_due:
            self._flush()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._read_while_blocked = 0

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._read_paused:
            self._read_paused = False
            if not self._closing:
                self._transport.resume_reading()
        # Not at once: the transport may call this from inside its own write.
        self.wake()

    def connection_lost(self, _: Exception | None) -> None:
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.events.closed()
            del stream.events
        self._connections.remove(self)

    # Connection

    def drain(self) -> None:
        """Takes no new streams; closes once those in flight ended.

        In two steps (RFC 9113, 6.8): a notice that names no last stream, then, a round trip later, the last stream.
        So a request that was under way when the notice left is served, not lost.
        """
        if self._draining or self._closing:
            return
        self._draining = True
        if self._settled:
            self._begin_drain()
        else:  # it may have been accepted just now, with a request on its way
            self._call_later(_DRAIN_ROUND_TRIP, self._give_up_preface)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    # Inner workings

    def _begin_drain(self) -> None:
        self._h2.send_shutdown_notice()
        self._h2.ping(_PING_DRAIN)
        self._call_later(_DRAIN_ROUND_TRIP, self._send_final_goaway)
        self.wake()

    def _give_up_preface(self) -> None:
        if not self._settled and not self._closing:
            self._close()

    def _dispatch(self) -> None:
        for event in self._h2.events():
            if isinstance(event, DataReceived):
                stream_id, data = event.stream_id, event.data
                stream = self._streams.get(stream_id)
                if stream is None or stream.kept is None:
                    self._h2.acknowledge_received_data(len(data), stream_id)
                else:
                    stream.kept += len(data)
                if stream is not None:
                    if event.end_stream:
                        stream.ended = True
                    stream.events.data_received(data, event.end_stream)
            elif isinstance(event, RequestReceived):
                self._last_stream = stream_id = event.stream_id
                stream = Stream(self, self._h2, stream_id, event.end_stream)
                self._streams[stream_id] = stream
                stream.events = self.request_received(stream, event.headers, event.end_stream)
            elif isinstance(event, StreamClosed):
                stream = self._streams.pop(event.stream_id, None)
                if stream is not None:
                    stream.events.closed()
                    del stream.events  # so that no cycle waits for the garbage collector
            else:
                self._handle_rare(event)
                if self._closing:
                    return

    def _handle_rare(self, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.TrailersReceived):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.ended = True
                stream.events.data_received(b"", True)
        elif isinstance(event, ngh2.StreamReset):
            self._count_reset()
        elif isinstance(event, ngh2.SettingsReceived):
            if not self._settled and self._draining:
                self._begin_drain()
            self._settled = True
            self._cancel(self._preface_late)
        elif isinstance(event, ngh2.PingAcknowledged):
            if event.opaque_data == _PING_DRAIN:
                self._send_final_goaway()
            elif self._cancel(self._ping_late):
                self._check_alive()
        elif isinstance(event, ngh2.ConnectionClosed):
            self._close()

    def _flush(self) -> None:
        """Writes what ngh2 has ready, as far as the transport takes it; then looks at what that ended."""
        self._flush_due = False
        self._corked = True
        while not self._write_paused and not self._closing:
            output = self._h2.data_to_send(_SLICE)
            if output:
                self._transport.write(output)
            self._dispatch()
            if len(output) == _SLICE:
                continue
            if self._to_reset and not self._write_paused and not self._closing and self._reset_sent():
                continue
            break
        self._corked = False
        if not self._closing:
            self.output_taken()

    def _reset_sent(self) -> bool:
        """Resets the streams whose answers left, of those that wait for it; whether there was one."""
        waiting, self._to_reset = self._to_reset, []
        for stream_id in waiting:
            if stream_id in self._streams:
                if self._h2.queued_body_size(stream_id):
                    self._to_reset.append(stream_id)
                else:
                    self._h2.reset_stream(stream_id, NO_ERROR)
        return len(self._to_reset) < len(waiting)

    def _count_reset(self) -> None:
        limits = self._http2_limits
        now = time.monotonic()
        self._resets = min(limits.reset_burst, self._resets + (now - self._resets_at) * limits.reset_rate) - 1
        self._resets_at = now
        if self._resets < 0:
            logger.warning("%s reset too many streams: connection closed", self._peer)
            self._h2.terminate_connection(ngh2.ErrorCode.ENHANCE_YOUR_CALM)
            self._transport.write(self._h2.data_to_send())
            self._close()

    def _fail(self, error: ngh2.NGH2Error, data: bytes) -> None:
        """ngh2 gave the connection up: says why, as far as the peer can be told."""
        if self._settled or not _HTTP1_REQUEST.match(data):
            logger.info("%s broke HTTP/2: %s", self._peer, error)
            flood = isinstance(error, ngh2.DenialOfServiceError)
            code = ngh2.ErrorCode.ENHANCE_YOUR_CALM if flood else ngh2.ErrorCode.PROTOCOL_ERROR
            self._send_preface()
            self._transport.write(_goaway(self._last_stream, code, str(error).encode()))
        else:
            self._transport.write(_HTTP1_ANSWER)
        self._close()

    def _send_preface(self) -> None:
        if self._preface:
            self._transport.write(self._preface)
            self._preface = b""

    def _close(self) -> None:
        """Closes after what was written; ``connection_lost`` tells the streams."""
        self._closing = True
        self._transport.close()

    def _send_final_goaway(self) -> None:
        if self._final_goaway_sent or self._closing:
            return
        self._final_goaway_sent = True
        self._cancel(self._send_final_goaway)
        self._h2.send_goaway(NO_ERROR)
        self.wake()

    def _preface_late(self) -> None:
        logger.info("%s sent no HTTP/2 preface in time", self._peer)
        self._close()

    def _check_alive(self) -> None:
        limits = self._http2_limits
        assert limits.keepalive_time is not None
        if self._heard or not self._settled or self._closing:
            self._heard = False
            self._call_later(limits.keepalive_time, self._check_alive)
            return
        self._h2.ping(_PING_ALIVE)
        self._call_later(limits.keepalive_timeout, self._ping_late)
        self.wake()

    def _ping_late(self) -> None:
        self._timers.pop(self._ping_late)
        if self._heard:
            self._check_alive()
            return
        logger.info("%s answers no PING: connection closed", self._peer)
        self.abort()

    def _check_sent(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent == self._unsent_at_tick:
            logger.info("%s takes no answers: connection closed", self._peer)
            self.abort()
            return
        self._unsent_at_tick = unsent
        self._call_later(self._http2_limits.send_timeout, self._check_sent)

    def _check_idle(self) -> None:
        limits = self._http2_limits
        assert limits.idle_timeout is not None
        if not self._streams and self._last_stream == self._last_stream_at_tick:
            self.drain()
            return
        self._last_stream_at_tick = self._last_stream
        self._call_later(limits.idle_timeout, self._check_idle)

    def _end_of_age(self) -> None:
        self.drain()
        grace = self._http2_limits.max_age_grace
        if grace is not None and not self._closing:
            self._call_later(grace, self.abort)

    def _call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self._timers[callback] = self._loop.call_later(delay, callback)

    def _cancel(self, callback: Callable[[], None]) -> bool:
        """Whether it was due."""
        timer = self._timers.pop(callback, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    @property
    def _peer(self) -> str:
        return str(self._transport.get_extra_info("peername") or "a UNIX socket's peer")


def _configuration(limits: Http2Limits) -> ngh2.Configuration:
    return ngh2.Configuration(
        auto_window_update=False,
        max_inbound_header_list_size=4 * limits.max_header_list,
        stream_reset_rate_limit=(_UNLIMITED, _UNLIMITED),
    )


def _goaway(last_stream: int, code: int, debug_data: bytes) -> bytes:
    """A GOAWAY frame (RFC 9113, 6.8)."""
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + debug_data
    return len(payload).to_bytes(3, "big") + b"\x07\x00\x00\x00\x00\x00" + payload


_HTTP1_TEXT = b"This port speaks gRPC, that is HTTP/2. Send HTTP/1.1 requests to the REST port.\n"
_HTTP1_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_HTTP1_TEXT), _HTTP1_TEXT)
)
