"""The process from its start to its end: what may not stop it, and what may not keep it."""

import signal
import subprocess
import sys

SERVE = """
import signal, sys, threading
from pyserving.server.run import run
from pyserving.server.settings import Settings

def settled(directory, ports):
    {settled}

settings = Settings(models=[], host="127.0.0.1", rest_port=0, grpc_port=None, grace_period=0.1)
sys.exit(run(settings, on_models_settled=settled))
"""


def serve(settled: str) -> subprocess.Popen[str]:
    """A server of no models in a process of its own; ``settled`` is run when it serves."""
    code = SERVE.format(settled=settled)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_run_that_does_not_end_does_not_keep_the_process() -> None:
    server = serve("threading.Thread(target=threading.Event().wait).start(); print('serves', flush=True)")
    assert server.stdout is not None
    assert server.stdout.readline() == "serves\n"
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    server.stdout.close()


def test_a_summary_that_cannot_be_shown_does_not_end_the_server() -> None:
    for error in ("OSError('disk full')", "SystemExit(1)"):
        later = "threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGTERM)).start()"
        server = serve(f"{later}; raise {error}")
        output, _ = server.communicate(timeout=30)
        assert (server.returncode, output) == (0, ""), error
