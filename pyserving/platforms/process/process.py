"""One life of a model's process: from its start to its end, and what is asked of it in between."""

import contextlib
import itertools
import logging
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from pyserving.core.errors import Code, ServingError
from pyserving.core.interpreter import command, environment
from pyserving.platforms.model import Array
from pyserving.platforms.process.frames import Message, encode, receive, send
from pyserving.platforms.process.spec import ProcessSpec, to_json
from pyserving.platforms.python.composition import Pieces, Session, Target

logger = logging.getLogger("pyserving.process")

_UNLOAD_SECONDS = 10.0
"""How long a process may take to unload before it is killed."""


class Run:
    """One request in the process, and what comes back for it."""

    def __init__(self) -> None:
        self.replies: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.session: Session | None = None
        self.context = copy_context()
        """Its calls of other models, if it has made any."""
        self.asked: list[int] = []
        """Their numbers."""


class ModelProcess:
    """Any thread may use it. Once the process is gone, all that waits and all that comes gets UNAVAILABLE."""

    def __init__(self, spec: ProcessSpec, on_end: Callable[["ModelProcess"], None]) -> None:
        """Starts the process, by exec and not by fork. ``on_end`` is called once it is gone, unless it was closed."""
        self.spec = spec
        self.end = ""
        """Why it is gone; empty while it is there."""
        self._on_end = on_end
        self._loading = Run()
        self._runs: dict[int, Run] = {0: self._loading}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closing = False
        self._asked: dict[int, Pieces] = {}
        """What it has asked of other models, by its numbers."""
        # Answers to its calls come on the event loop's thread, which must not wait for a socket.
        self._answers = ThreadPoolExecutor(1, thread_name_prefix="process-answers")
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command("-m", f"{__package__}.child", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__,  # what model code prints
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the server, which then ends it
            )
        self.send(Message("load", 0, to_json(spec)))
        threading.Thread(target=self._read, name=f"process-{spec.servable.name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def loaded(self) -> Message:
        """Waits for the model to be loaded. Raises ServingError, and ends the process, if it cannot be."""
        limit = self.spec.load_time_limit
        try:
            message = self.reply(0, limit)
            if message.kind == "loaded":
                return message
            error = self.gone()  # it was closed while it was loading
        except queue.Empty:
            error = ServingError(
                Code.DEADLINE_EXCEEDED, f"{self.spec.folder} was not loaded within {limit:g} s; its process was killed"
            )
        except ServingError as failure:
            error = failure
        self.kill()
        raise error

    def begin(self, kind: str, fields: Mapping[str, Any], tensors: Mapping[str, Array]) -> int:
        """Asks for something; returns its number, for ``reply``, and for ``finish`` in the end."""
        number = next(self._numbers)
        with self._lock:
            if not self.end:
                self._runs[number] = Run()
        if self.end:
            raise self.gone()
        self.send(Message(kind, number, fields, tensors))
        return number

    def reply(self, number: int, timeout: float | None) -> Message:
        """The next message for it. Raises ServingError if that says that it failed, and queue.Empty."""
        message = self._runs[number].replies.get(timeout=timeout)
        if message.kind == "failed":
            raise ServingError(Code(message.fields["code"]), message.fields["message"])
        return message

    def interrupt(self, number: int, message: Message) -> None:
        """Lets whoever waits for a reply get ``message``."""
        if run := self._runs.get(number):
            run.replies.put(message)

    def finish(self, number: int) -> None:
        run = self._runs.pop(number, None)
        if run is not None and run.session is not None:
            run.session.close()
            for asked in run.asked:
                self._asked.pop(asked, None)

    def send(self, message: Message) -> None:
        """Raises UNAVAILABLE, and ValueError for an array of a dtype that no tensor has."""
        buffers = encode(message)
        try:
            with self._lock:
                send(self._connection, buffers)
        except OSError:
            raise self.gone() from None

    def gone(self) -> ServingError:
        return ServingError(Code.UNAVAILABLE, f"the process of {self.spec.servable} {self.end or 'is ending'}")

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Has it unload, and waits for its end."""
        self._closing = True
        try:
            self.send(Message("unload", 0))
            self._process.wait(_UNLOAD_SECONDS)
        except subprocess.TimeoutExpired:
            logger.warning("The process of %s did not unload within %g s", self.spec.servable, _UNLOAD_SECONDS)
        except ServingError:
            pass
        self.kill()
        self._process.wait()

    def _read(self) -> None:
        try:
            while (message := receive(self._connection)) is not None:
                self._take(message)
        except OSError:
            pass
        except Exception:
            logger.exception("The process of %s sent what cannot be read", self.spec.servable)
        self.kill()
        code = self._process.wait()
        with self._lock:
            self.end = f"ended ({_cause(code)})"
            runs = list(self._runs.values())
        self._connection.close()
        self._answers.shutdown(wait=False)
        error = self.gone()
        for run in runs:
            run.replies.put(Message("failed", 0, {"code": int(error.code), "message": error.message}))
        if not self._closing:
            self._on_end(self)

    def _take(self, message: Message) -> None:
        match message.kind:
            case "log":
                fields = message.fields
                logging.getLogger(fields["logger"]).log(fields["level"], "%s", fields["text"])
            case "call" | "stream call":
                self._call(message)
            case "next":
                self._next(message.id)
            case "drop" if asked := self._asked.pop(message.id, None):
                asked.close()
            case "exhausted":
                logger.warning("The process of %s has used up its memory and is started anew", self.spec.servable)
                self.kill()
            case _ if run := self._runs.get(message.id):
                run.replies.put(message)

    def _call(self, message: Message) -> None:
        """The model asks another one."""
        fields = message.fields
        run = self._runs.get(fields["run"])
        if run is None:
            return  # the request is over
        if run.session is None:
            run.session = run.context.run(self.spec.open_session, self.spec.servable)
        run.asked.append(message.id)
        timeout = fields["timeout"]
        deadline = None if timeout is None else time.monotonic() + timeout
        arguments = Target(*fields["target"]), fields["signature"], message.tensors, deadline
        if message.kind == "call":
            self._asked[message.id] = _OneAnswer(run.session.call(*arguments))
        else:
            self._asked[message.id] = run.session.stream(*arguments)

    def _next(self, number: int) -> None:
        """The model waits for an answer, or for a piece of one."""
        asked = self._asked.get(number)
        if asked is None:
            self._answer(number, ServingError(Code.CANCELLED, "the request is over"))
            return
        if isinstance(asked, _OneAnswer):
            del self._asked[number]
        asked.next().add_done_callback(lambda done: self._answers.submit(self._answer_with, number, done))

    def _answer_with(self, number: int, done: "Future[dict[str, Array] | None]") -> None:
        try:
            tensors = done.result()
            self.send(Message("ended", number) if tensors is None else Message("answered", number, {}, tensors))
        except ServingError as error:
            self._answer(number, error)
        except BaseException as error:
            logger.error("A call of %s failed", self.spec.servable, exc_info=error)
            self._answer(number, ServingError(Code.INTERNAL, "internal error"))

    def _answer(self, number: int, error: ServingError) -> None:
        with contextlib.suppress(ServingError):
            self.send(Message("call failed", number, {"code": int(error.code), "message": error.message}))


class _OneAnswer:
    """``Pieces`` of a call that has one answer."""

    def __init__(self, answer: "Future[dict[str, Array]]") -> None:
        self._answer = answer

    def next(self) -> "Future[dict[str, Array] | None]":
        return self._answer  # type: ignore[return-value]  # Future is invariant, for it can be written to

    def close(self) -> None:
        self._answer.cancel()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name
