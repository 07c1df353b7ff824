"""Copies examples/, and runs what their READMEs say to export models:  python built_examples.py FOLDER

All in one process, since each would import TensorFlow for seconds. Run by the fixture ``built_examples`` of
conftest.py.
"""

import os
import runpy
import shlex
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

if __name__ == "__main__":
    root = Path(sys.argv[1]).absolute()
    examples = Path(__file__).resolve().parents[1] / "examples"
    shutil.copytree(examples, root, ignore=shutil.ignore_patterns("__pycache__"))
    path = list(sys.path)
    for readme in sorted(root.glob("*/README.md")):
        os.chdir(readme.parent)
        for line in readme.read_text(encoding="utf-8").splitlines():
            if line.startswith("python export.py"):
                sys.argv[:] = shlex.split(line)[1:]
                sys.path[:] = [str(readme.parent), *path]
                before = set(sys.modules)
                runpy.run_path(sys.argv[0], run_name="__main__")
                for name in set(sys.modules) - before:  # another example may have a module of that name
                    if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(root)):
                        del sys.modules[name]
