"""How to start another process of this Python, which imports what this one would import."""

import os
import sys


def command(*arguments: str) -> list[str]:
    """For ``subprocess``, with ``environment``.

    Without ``-P`` Python would look for all modules, its own too, in the working directory first. That may be a version
    folder, or hold a script that happens to be named like one of them.
    """
    return [sys.executable, "-P", *arguments]


def environment(**more: str) -> dict[str, str]:
    """This process's, with the places that it imports from, and ``more``."""
    # Python passes over what is no text, such as a Path that a model's code has put there.
    places = os.pathsep.join(place or os.curdir for place in sys.path if isinstance(place, str))
    return {**os.environ, "PYTHONPATH": places, **more}
