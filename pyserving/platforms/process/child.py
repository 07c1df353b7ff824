"""The program that runs in the process of a model: ``python -m pyserving.platforms.process.child DESCRIPTOR``.

It ends when the server does, or closes its end of the socket.
"""

import base64
import itertools
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array, Model, StreamCancelled, StreamingModel, ThreadedModel
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.process.frames import Message, encode, receive, send
from pyserving.platforms.process.memory_limit import MemoryLimit
from pyserving.platforms.process.signatures import to_json
from pyserving.platforms.process.spec import from_json
from pyserving.platforms.python.composition import Pieces, Session, Target
from pyserving.platforms.registry import Platforms
from pyserving.platforms.tensorflow.op_library import load_op_libraries

logger = logging.getLogger("pyserving.process")


class Link:
    """The socket to the server; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        buffers = encode(message)
        with self._lock:
            send(self._connection, buffers)

    def receive(self) -> Message | None:
        return receive(self._connection)

    def fail(self, number: int, error: BaseException) -> None:
        """Says that a run, or the load, has failed."""
        if not isinstance(error, ServingError):
            logger.error("A run failed", exc_info=error)
            error = ServingError(Code.INTERNAL, "internal error")
        self.send(Message("failed", number, {"code": int(error.code), "message": error.message}))


class Child:
    """Loads what it is told, and runs what it is asked."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._calls = _Calls(link)
        self._outlets: dict[int, _Outlet] = {}
        self._memory: MemoryLimit | None = None
        self._exhausted = False

    def run(self) -> None:
        """Returns when the server wants no more."""
        message = self._link.receive()
        if message is None:
            return
        spec = from_json(dict(message.fields), self._calls.open_session)
        self._time_limit = spec.time_limit
        loader = Platforms(spec.context).loader(spec.servable, spec.folder, spec.platform)
        if spec.memory_limit is not None:
            self._memory = MemoryLimit(spec.memory_limit)
        # While it loads it may ask other models, and the server may hang up.
        threading.Thread(target=self._load, args=(loader.load, spec.context), daemon=True).start()
        while (message := self._link.receive()) is not None:
            match message.kind:
                case "run":
                    self._threads.submit(self._run, message)
                case "stream":
                    self._outlets[message.id] = _Outlet(self._link, message.id)
                    self._threads.submit(self._stream, message)
                case "took" if outlet := self._outlets.get(message.id):
                    outlet.took()
                case "cancel" if outlet := self._outlets.get(message.id):
                    outlet.cancel()
                case "answered" | "ended" | "call failed":
                    self._calls.settle(message)
                case "unload":
                    loader.unload()
                    self._link.send(Message("unloaded", 0))
                    return

    def _load(self, load: Callable[[], Any], context: PlatformContext) -> None:
        self._calls.run.number = 0
        parallel_runs = context.parallel_runs
        try:
            if context.op_libraries:
                load_op_libraries(context.op_libraries)
            self._model: Model = load()
        except BaseException as error:
            self._link.fail(0, error)
            return
        model = self._model
        threaded = isinstance(model, ThreadedModel)
        self._threads: Executor = model.threads if threaded else ThreadPoolExecutor(parallel_runs)
        fields = {
            "signatures": [to_json(signature) for signature in model.signatures.values()],
            "signature_defs": {
                name: base64.b64encode(definition.SerializeToString()).decode()
                for name, definition in model.signature_defs.items()
            },
            "time_limit": model.time_limit if threaded else self._time_limit,
            "concurrency": model.concurrency if threaded else parallel_runs,
        }
        defaults = {
            f"{signature.name}/{name}": value
            for signature in model.signatures.values()
            for name, value in signature.defaults.items()
        }
        self._link.send(Message("loaded", 0, fields, defaults))

    def _run(self, message: Message) -> None:
        self._calls.run.number = message.id
        outputs = message.fields["outputs"]
        failure: BaseException | None = None
        try:
            signature = self._model.signatures[message.fields["signature"]]
            timeout = message.fields["timeout"]
            results = self._model.run(signature, message.tensors, outputs, timeout=timeout)
            self._link.send(Message("done", message.id, {}, dict(zip(outputs, results, strict=True))))
        except BaseException as error:
            failure = error
            self._link.fail(message.id, error)
        self._check_memory(failure)

    def _stream(self, message: Message) -> None:
        self._calls.run.number = message.id
        outlet = self._outlets[message.id]
        outlet.outputs = outputs = message.fields["outputs"]
        model = self._model
        assert isinstance(model, StreamingModel)
        failure: BaseException | None = None
        try:
            model.stream(model.signatures[message.fields["signature"]], message.tensors, outputs, outlet)
            self._link.send(Message("done", message.id))
        except StreamCancelled:
            self._link.send(Message("done", message.id))
        except BaseException as error:
            failure = error
            self._link.fail(message.id, error)
        finally:
            del self._outlets[message.id]
        self._check_memory(failure)

    def _check_memory(self, failure: BaseException | None) -> None:
        failed = isinstance(failure, ServingError) and failure.code is Code.RESOURCE_EXHAUSTED
        if self._memory is not None and not self._exhausted and self._memory.worn_out(failed=failed):
            self._exhausted = True
            self._link.send(Message("exhausted", 0))


class _Outlet:
    """An ``Outlet`` whose other end is in the server: one piece at a time is on its way."""

    def __init__(self, link: Link, number: int) -> None:
        self.outputs: list[str] = []
        self._link = link
        self._number = number
        self._room = threading.Semaphore(2)
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def put(self, piece: list[Array]) -> None:
        self._room.acquire()
        if self._cancelled:
            self._room.release()
            raise StreamCancelled
        self._link.send(Message("piece", self._number, {}, dict(zip(self.outputs, piece, strict=True))))

    def on_cancel(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def took(self) -> None:
        self._room.release()

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
        self._room.release()
        for callback in self._callbacks:
            callback()


class _Calls:
    """What the model asks of other models, which the server answers."""

    def __init__(self, link: Link) -> None:
        self.run = threading.local()
        """``number``: the run that the thread is busy with."""
        self._link = link
        self._waiting: dict[int, Future[Any]] = {}
        self._numbers = itertools.count(1)

    def open_session(self, _: ServableId) -> Session:
        return _Session(self, getattr(self.run, "number", 0))

    def ask(
        self, kind: str, run: int, target: Target, signature: str, inputs: Mapping[str, Array], deadline: float | None
    ) -> int:
        """Returns the number of what was asked."""
        number = next(self._numbers)
        fields = {
            "run": run,
            "target": [target.name, target.version, target.label],
            "signature": signature,
            "timeout": None if deadline is None else deadline - time.monotonic(),
        }
        self._link.send(Message(kind, number, fields, inputs))
        return number

    def next(self, number: int) -> "Future[Any]":
        """What comes next for that number."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # who no longer waits for it is not to change it
        self._waiting[number] = future
        self._link.send(Message("next", number))
        return future

    def drop(self, number: int) -> None:
        self._link.send(Message("drop", number))

    def settle(self, message: Message) -> None:
        future = self._waiting.pop(message.id)
        if message.kind == "answered":
            future.set_result(dict(message.tensors))
        elif message.kind == "ended":
            future.set_result(None)
        else:
            future.set_exception(ServingError(Code(message.fields["code"]), message.fields["message"]))


class _Session:
    """The server closes its own as the run ends."""

    def __init__(self, calls: _Calls, run: int) -> None:
        self._calls = calls
        self._run = run

    def call(
        self, target: Target, signature: str, inputs: Mapping[str, Array], deadline: float | None
    ) -> "Future[dict[str, Array]]":
        return self._calls.next(self._calls.ask("call", self._run, target, signature, inputs, deadline))

    def stream(self, target: Target, signature: str, inputs: Mapping[str, Array], deadline: float | None) -> Pieces:
        return _Pieces(self._calls, self._calls.ask("stream call", self._run, target, signature, inputs, deadline))

    def close(self) -> None:
        pass


class _Pieces:
    """``Pieces`` that the server has."""

    def __init__(self, calls: _Calls, number: int) -> None:
        self._calls = calls
        self._number = number

    def next(self) -> "Future[dict[str, Array] | None]":
        return self._calls.next(self._number)

    def close(self) -> None:
        self._calls.drop(self._number)


class _LogToServer(logging.Handler):
    """The server's log has one form, whichever process a line comes from."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            self._link.send(Message("log", 0, {"logger": record.name, "level": record.levelno, "text": text}))
        except Exception:
            self.handleError(record)


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    link = Link(connection)
    logging.basicConfig(level=logging.INFO, handlers=[_LogToServer(link)], format="%(message)s")
    code = 0
    try:
        Child(link).run()
    except OSError:  # the server is gone
        pass
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # model code may have left threads behind


if __name__ == "__main__":
    main()
