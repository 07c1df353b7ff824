"""Writes MODELS/trend/1, which has learned nothing yet:  python export.py MODELS"""

import sys
from pathlib import Path

from trend import Trend, export

export(Trend(), Path(sys.argv[1]), 1)
