"""The floor: PyServing's transport with handlers that compute nothing.

python -m benchmarks.echo REST_PORT GRPC_PORT

Over REST a constant is the answer; over gRPC the message, or the first 128 bytes of a long one, as answers are short.
"""

import asyncio
import sys

from pyserving.api.exchange import HttpRequest, HttpResponse, RpcContext
from pyserving.transport.grpc import GrpcConnection
from pyserving.transport.http1 import Http1Server
from pyserving.transport.listener import Listener, open_tcp
from pyserving.transport.loop import new_event_loop

MOST = 128
ANSWER = HttpResponse(200, b'{"predictions":[2.5,3.0,4.5]}')


async def answer_http(_: HttpRequest) -> HttpResponse:
    return ANSWER


async def echo(message: bytes, _: RpcContext) -> bytes:
    return message[:MOST]


async def main(rest: int, grpc: int) -> None:
    methods = {"/tensorflow.serving.PredictionService/Predict": echo}
    await Listener(open_tcp("127.0.0.1", rest), Http1Server(answer_http).new_connection).start()
    await Listener(open_tcp("127.0.0.1", grpc), lambda connections: GrpcConnection(connections, methods)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2])))
