"""A virtual environment for each contender, made on first use below .cache/benchmarks/environments/.

It sees the packages of the environment that runs the benchmarks through a .pth file, so that all share one TensorFlow;
what a contender needs in another version (MLServer: an older protobuf) pip installs into its own, which comes first.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from benchmarks.running import ROOT

FOLDER = ROOT / ".cache" / "benchmarks" / "environments"


class NotAvailableError(Exception):
    """Why something cannot be measured here; one line."""


def python_for(name: str, requirements: Sequence[str], folder: Path = FOLDER) -> Path:
    """The interpreter of an environment with ``requirements``. Raises NotAvailableError if pip cannot install them."""
    environment = folder / name
    python, stamp = environment / "bin" / "python", environment / ".requirements"
    wanted = "\n".join([sys.executable, *requirements])
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *requirements],
        capture_output=True,
        text=True,
        env=clean,
        check=False,
    )
    if installed.returncode:
        errors = [line for line in installed.stderr.splitlines() if line.startswith("ERROR")]
        raise NotAvailableError(f"pip install {' '.join(requirements)}: {(errors or ['failed'])[-1]}")
    stamp.write_text(wanted)
    return python


def versions(python: Path, requirements: Sequence[str]) -> dict[str, str]:
    """The installed versions of the packages that ``requirements`` name."""
    names = [re.split(r"[\[<>=]", requirement)[0] for requirement in requirements]
    code = "import sys, importlib.metadata as m; print(*(m.version(name) for name in sys.argv[1:]))"
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, done.stdout.split(), strict=True))
