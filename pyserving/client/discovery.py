"""Finds out what answers at an address: REST or gRPC."""

import asyncio
import ssl
from contextlib import suppress

from pyserving.client.address import Address, Protocol
from pyserving.client.errors import Unreachable
from pyserving.client.http1 import CONNECT_SECONDS, why

# How each HTTP/2 client begins (RFC 9113, 3.4), with empty settings. A gRPC server answers with its own settings;
# to an HTTP/1.1 server it is a bad request.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_FRAME_HEAD = 9
_SETTINGS = 4


async def find_out(address: Address, context: ssl.SSLContext) -> list[Address]:
    """The address with all protocols that answer there, gRPC first: it carries every type, without any text.

    Raises Unreachable.
    """
    if address.protocol is not None:
        return [address]
    if address.port or address.unix:
        return [address.at(await _protocol(address, context))]
    both = [address.at(Protocol.GRPC), address.at(Protocol.REST)]
    found = await asyncio.gather(*(_protocol(one, context) for one in both), return_exceptions=True)
    answering = [one.at(protocol) for one, protocol in zip(both, found, strict=True) if isinstance(protocol, Protocol)]
    for problem in found:
        if isinstance(problem, BaseException) and not isinstance(problem, Unreachable):
            raise problem
    if not answering:
        if (texts := {str(one.message) for one in found if isinstance(one, Unreachable)}) and len(texts) == 1:
            raise Unreachable(texts.pop())
        raise Unreachable(
            f"nothing answers at {address.host}, neither at port {both[0].port} (gRPC) nor at {both[1].port} (REST): "
            f"{_reason(found[0])}"
        )
    return answering


def _reason(problem: object) -> str:
    return problem.message.partition(": ")[2] if isinstance(problem, Unreachable) else str(problem)


async def _protocol(address: Address, context: ssl.SSLContext) -> Protocol:
    writer = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if address.unix:
                reader, writer = await asyncio.open_unix_connection(address.unix)
            else:
                secure = None
                if address.tls:
                    context.set_alpn_protocols(["h2", "http/1.1"])
                    secure = context
                reader, writer = await asyncio.open_connection(address.host, address.port, ssl=secure)
                negotiated = writer.get_extra_info("ssl_object")
                if negotiated is not None and negotiated.selected_alpn_protocol() == "http/1.1":
                    return Protocol.REST
            writer.write(_PREFACE)
            head = await reader.read(_FRAME_HEAD)
    except TimeoutError:
        raise Unreachable(f"{_place(address)} does not answer: nothing came within {CONNECT_SECONDS:g} s") from None
    except OSError as error:
        raise Unreachable(f"{_place(address)} does not answer: {why(error)}") from None
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    if len(head) > 3 and head[3] == _SETTINGS:
        return Protocol.GRPC
    if head.startswith(b"HTTP/"):
        return Protocol.REST
    raise Unreachable(f"{_place(address)} speaks neither REST nor gRPC: it answered {head!r}")


def _place(address: Address) -> str:
    return f"unix:{address.unix}" if address.unix else address.authority
