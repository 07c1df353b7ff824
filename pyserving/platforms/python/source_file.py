"""The file ``model.py``: what can be read of it without running it, and its import."""

import ast
import importlib.util
import itertools
import os
import re
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

from pyserving.authoring import Model
from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId

FILE_NAME = "model.py"

_CONSTANTS = ("isolation", "load_time_limit", "memory_limit")
_FOLDED = (ast.Constant, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop)

_numbers = itertools.count(1)

# Before 3.11.8 and 3.12.2, threads that build syntax trees at the same time share one count of their depth, and
# ast.parse may raise SystemError (github.com/python/cpython/issues/106905). Libraries parse, too, and take no lock.
_one_parses = threading.Lock()
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Constants:
    """What the class says of how it wants to be run, before any of its code runs."""

    isolation: str
    load_time_limit: float
    memory_limit: int | None


def read_constants(folder: str) -> Constants:
    """From the text of the file alone. Raises NOT_FOUND, and FAILED_PRECONDITION where it cannot be understood."""
    file = os.path.join(folder, FILE_NAME)
    try:
        with open(file, "rb") as stream:
            text = stream.read()
        tree = _parse(text, file)
    except OSError as error:
        raise ServingError(Code.NOT_FOUND, f"{file} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise ServingError(Code.FAILED_PRECONDITION, f"{file} is no Python: {error}") from None
    found: dict[str, Any] = {name: getattr(Model, name) for name in _CONSTANTS}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for name, value in _assigned(node):
                found[name] = _constant(file, name, value)
    constants = Constants(**found)
    if constants.isolation not in ("threads", "process"):
        raise _wrong(file, f"isolation must be 'threads' or 'process', not {constants.isolation!r}")
    for name in ("load_time_limit", "memory_limit"):
        value = found[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise _wrong(file, f"{name} must be a number above 0, not {value!r}")
    return constants


def _parse(text: bytes, file: str) -> ast.Module:
    with _one_parses:
        for _ in range(_TRIES - 1):
            with suppress(SystemError):
                return ast.parse(text, file)
        return ast.parse(text, file)


def import_file(folder: str, servable: ServableId) -> ModuleType:
    """Runs the file as a module of its own, in which ``from . import x`` finds the files beside it.

    Two versions, or two models, share no module that lies in their folders. Raises whatever the code raises.
    """
    file = os.path.join(folder, FILE_NAME)
    plain = re.sub(r"\W", "_", servable.name, flags=re.ASCII)
    name = f"pyserving_model_{plain}_{servable.version}_{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(
        name, file, loader=_Loader(name, file), submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        forget(module)
        raise
    return module


def forget(module: ModuleType) -> None:
    """Lets go of a module that ``import_file`` returned, of those beside it, and of all that they hold.

    Functions refer to the names of their module, and these to the functions: what a model has read into such a name
    would stay in memory until the garbage collector comes by.
    """
    name = module.__name__
    for key in [key for key in list(sys.modules) if key == name or key.startswith(f"{name}.")]:
        if gone := sys.modules.pop(key, None):
            gone.__dict__.clear()


def find_class(module: ModuleType) -> type[Model]:
    """The one class of the module that derives from Model. Raises FAILED_PRECONDITION where there is not just one."""
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Model) and value.__module__ == module.__name__
    ]
    leaves = [one for one in classes if not any(other is not one and issubclass(other, one) for other in classes)]
    if len(leaves) != 1:
        names = ", ".join(one.__name__ for one in leaves) or "none"
        raise _wrong(str(module.__file__), f"there must be one class that derives from pyserving.Model, found {names}")
    return leaves[0]


def check_constants(cls: type[Model], constants: Constants) -> None:
    """Raises FAILED_PRECONDITION where the class has others than those that were read of its text."""
    for name in _CONSTANTS:
        if getattr(cls, name) != getattr(constants, name):
            raise _wrong(
                FILE_NAME,
                f"{name} of class {cls.__name__} must be written in the class itself, as a constant: it is read before "
                f"the file is run, and then was {getattr(constants, name)!r}",
            )


class _Loader(SourceFileLoader):
    """Leaves no ``__pycache__`` in a version folder, which may be read by several servers and changed by none."""

    def set_data(self, path: Any, data: Any, *, _mode: int = 0o666) -> None:
        pass


def _assigned(node: ast.ClassDef) -> list[tuple[str, ast.expr]]:
    pairs = []
    for statement in node.body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets = [statement.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in _CONSTANTS:
                assert isinstance(statement, ast.Assign | ast.AnnAssign)
                assert statement.value is not None
                pairs.append((target.id, statement.value))
    return pairs


def _constant(file: str, name: str, value: ast.expr) -> Any:
    """The value of an expression of constants, such as ``512 * 1024**2``."""
    if not all(isinstance(node, _FOLDED) for node in ast.walk(value)):
        raise _wrong(file, f"{name} must be a constant, for it is read before the file is run")
    return eval(compile(ast.Expression(value), file, "eval"), {"__builtins__": {}})


def _wrong(file: str, what: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, f"{file}: {what}")
