"""Finds out the facts of a graph where that keeps no request waiting."""

import json
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from pyserving.core.background import in_background
from pyserving.core.interpreter import environment
from pyserving.platforms.stepping_back import NICENESS
from pyserving.platforms.tensorflow.graph_facts import GraphFacts, look_through
from pyserving.platforms.tensorflow.graph_process import command
from pyserving.platforms.tensorflow.saved_model import SAVED_MODEL_FILE

LARGE_GRAPH = 512 << 10
"""Bytes of ``saved_model.pb`` from which on a process is started: it takes 0.2 s of CPU time to start, at low priority,
and this process's GIL would be taken for 25 ms, 3 of them at a stretch for each further MB."""
_SECONDS = 60.0
"""What a process may take from the time at which it is given the graph."""

logger = logging.getLogger("pyserving.tensorflow")


class GraphReader(Protocol):
    """Looks through one graph."""

    def facts(self, meta_graph: memoryview) -> GraphFacts:
        """Of a serialized ``MetaGraphDef``. Raises ServingError where it cannot be read."""
        ...


@contextmanager
def graph_reader(folder: str) -> Iterator[GraphReader]:
    """For the SavedModel in ``folder``. In the background (``core/background.py``) a large graph is looked through by
    another process, which starts now, so that it is ready when the graph is there."""
    if not (in_background() and _is_large(folder)):
        yield _InThisProcess()
        return
    try:
        reader = _InAnotherProcess()
    except OSError as error:
        logger.warning("No process can be started to look through the graph of %s: %s", folder, error)
        yield _InThisProcess()
        return
    try:
        yield reader
    finally:
        reader.close()


def _is_large(folder: str) -> bool:
    try:
        return os.path.getsize(os.path.join(folder, SAVED_MODEL_FILE)) >= LARGE_GRAPH
    except OSError:
        return False


class _InThisProcess:
    def facts(self, meta_graph: memoryview) -> GraphFacts:
        return look_through(bytes(meta_graph))


class _InAnotherProcess:
    """A process that ends with this one, for then its input ends."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._process = subprocess.Popen(
            command(NICENESS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment(OPENBLAS_NUM_THREADS="1"),  # it multiplies no matrices
            start_new_session=True,  # Ctrl-C is for the server, with which it ends
        )

    def facts(self, meta_graph: memoryview) -> GraphFacts:
        """A process that fails, such as for want of memory, is no reason to keep a model from being served."""
        timer = threading.Timer(_SECONDS, self._process.kill)
        try:
            timer.start()
            return GraphFacts.from_json(json.loads(self._answer(meta_graph)))
        except (OSError, RuntimeError, KeyError, TypeError, ValueError):  # RuntimeError: no thread can be started
            logger.warning("The process that looks through the graph has failed: it is done in this one")
            return look_through(bytes(meta_graph))
        finally:
            timer.cancel()

    def _answer(self, meta_graph: memoryview) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        while meta_graph:
            meta_graph = meta_graph[self._process.stdin.write(meta_graph) :]
        self._process.stdin.close()
        return self._process.stdout.read()

    def close(self) -> None:
        """It is of no more use; an answer that was not asked for is lost."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
