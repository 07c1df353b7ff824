"""Looks through a graph in a process of its own, which ``command`` starts.

It reads a serialized ``MetaGraphDef`` up to the end of its input, and writes ``GraphFacts`` as JSON.
"""

import json
import sys
from collections.abc import Sequence

from pyserving.core.interpreter import command as python_command
from pyserving.platforms.tensorflow.graph_facts import look_through

# It steps back before all else: to import is most of its work, and starts threads of OpenBLAS.
_PROGRAM = """
import os, sys
if hasattr(os, "nice"):  # not on Windows
    os.nice(int(sys.argv[1]))
from pyserving.platforms.tensorflow.graph_process import main
main()
"""


def command(niceness: int) -> Sequence[str]:
    """Of the process, for ``subprocess``. ``niceness`` is added to that of this one."""
    return python_command("-c", _PROGRAM, str(niceness))


def main() -> None:
    meta_graph = sys.stdin.buffer.read()
    if meta_graph:  # else the load has failed, or the server has ended
        json.dump(look_through(meta_graph).to_json(), sys.stdout)
