"""The digits of the demo, which lies beside this example."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from demo.digits import load_digits

TRAIN, TEST = load_digits()
