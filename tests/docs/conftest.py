"""Pages' models are asked over a server of tests/server, too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "server"))
