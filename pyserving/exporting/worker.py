"""The program that exports with TensorFlow: ``python -m pyserving.exporting.worker``.

It reads jobs from its standard input, a line of JSON each, and answers each by a line on its standard output. It ends
at once when its input does: then whoever asked is no more. It is the one place where the packages tensorflow and keras
are imported.
"""

import importlib
import importlib.util
import json
import os
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pyserving.exporting.job import Job, from_line
from pyserving.exporting.signature_text import InputText

DEFAULT = "serving_default"
_MOST_TEXT = 2000
_KERAS_FILES = (".keras", ".h5", ".hdf5")


class ExportError(Exception):
    """The model cannot be exported; the text is for people."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what TensorFlow, Keras and the model's code print
    sys.path.insert(0, os.getcwd())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    while True:
        job = jobs.get()
        try:
            answer = {"error": "", "signatures": export(job)}
        except ExportError as error:
            answer = {"error": str(error)}
        except BaseException as error:
            # Keras quotes the whole model before it comes to what is wrong.
            text = str(error).rpartition("Exception encountered: ")[2]
            answer = {"error": f"{type(error).__name__}: {text[:_MOST_TEXT]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _read_jobs(jobs: "queue.SimpleQueue[Job]") -> None:
    for line in sys.stdin.buffer:
        jobs.put(from_line(line))
    os._exit(1)


def export(job: Job) -> list[str]:
    """Writes the SavedModel and returns the names of its signatures. Raises whatever goes wrong."""
    if job.source.lower().endswith(_KERAS_FILES) and ":" not in os.path.basename(job.source):
        model = _keras_file(job)
    else:
        model = _made(_imported(job.source))
    if _is_keras(model):
        return _export_keras(job, model)
    return _export_module(job, model)


def _keras_file(job: Job) -> Any:
    import keras

    custom = {path.rpartition(":")[2].rpartition(".")[2]: _imported(path) for path in job.custom_objects}
    return keras.saving.load_model(job.source, custom_objects=custom, compile=False, safe_mode=not job.unsafe)


def _imported(path: str) -> Any:
    """The object at ``package.module:object`` or ``file.py:object``; dots lead on to what an object has."""
    module_name, colon, attributes = path.rpartition(":")
    if not colon or not module_name or not attributes:
        raise ExportError(f"{path} is no import path: expected package.module:object or file.py:object")
    if module_name.endswith(".py"):
        if not os.path.isfile(module_name):
            raise ExportError(f"there is no file {module_name}")
        name = os.path.splitext(os.path.basename(module_name))[0]
        sys.path.insert(0, os.path.dirname(os.path.abspath(module_name)))
        spec = importlib.util.spec_from_file_location(name, module_name)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise ExportError(f"{module_name} cannot be imported: {error}") from None
    found: Any = module
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise ExportError(f"{module_name} has no {attributes}")
        found = getattr(found, attribute)
    return found


def _made(found: Any) -> Any:
    """A class or a plain function is called for its object."""
    import tensorflow as tf

    if isinstance(found, type) or (callable(found) and not _is_function(found) and not isinstance(found, tf.Module)):
        try:
            found = found() if not _is_keras(found) else found
        except TypeError as error:
            raise ExportError(f"{found!r} cannot be called without arguments to get a model: {error}") from None
    if _is_function(found):
        module = tf.Module()
        module.call = found
        return module
    if not isinstance(found, tf.Module) and not _is_keras(found) and not hasattr(found, "_trackable_children"):
        raise ExportError(
            "expected a Keras model, a tf.Module, a tf.function or a function that makes one, "
            f"got {type(found).__name__}"
        )
    return found


def _is_keras(found: Any) -> bool:
    if "keras" not in sys.modules:
        return False
    import keras

    return isinstance(found, keras.Layer)


def _is_function(found: Any) -> bool:
    """Whether it is a tf.function."""
    return hasattr(found, "get_concrete_function")


def _tensor_specs(inputs: Sequence[InputText]) -> list[Any]:
    import tensorflow as tf

    specs = []
    for one in inputs:
        try:
            dtype = tf.dtypes.as_dtype(one.dtype)
        except TypeError:
            raise ExportError(f"there is no dtype {one.dtype}") from None
        shape = None if one.shape is None else list(one.shape)
        specs.append(tf.TensorSpec(shape, dtype, one.name or None))
    return specs


def _method(model: Any, name: str) -> Any:
    if not hasattr(model, name):
        raise ExportError(f"{type(model).__name__} has no method {name}")
    method = getattr(model, name)
    if not callable(method):
        raise ExportError(f"{name} of {type(model).__name__} is no method")
    return method


def _has_input_signature(function: Any) -> bool:
    return _is_function(function) and getattr(function, "input_signature", None) is not None


def _export_keras(job: Job, model: Any) -> list[str]:
    """What computes answers, without optimizer, losses, metrics and training graph."""
    import keras

    if not model.built:
        _build(job, model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    methods = dict(job.signatures)
    own = _own_inputs(model)
    given = _of_default(job.input_signatures)
    if DEFAULT not in methods and (own is not None or given is not None or not methods):
        methods = {DEFAULT: "__call__", **methods}
    for name, method_name in methods.items():
        method = _method(model, method_name)
        written = given if name == DEFAULT else job.input_signatures.get(name)
        if written is not None:
            archive.add_endpoint(name, method, input_signature=_tensor_specs(written))
        elif _has_input_signature(method):
            method.get_concrete_function()
            archive.add_endpoint(name, method)
        elif method_name in ("__call__", "call") and own is not None:
            archive.add_endpoint(name, method, input_signature=own)
        else:
            raise _no_inputs(name, method_name)
    _store_weights_once(archive)
    archive.write_out(job.folder, verbose=False)
    return sorted(methods)


def _store_weights_once(archive: Any) -> None:
    """Has the archive list TensorFlow's variables, as its functions do.

    Keras lists its own, which wrap them. To TensorFlow these are others: each weight would be twice on disk, and in the
    memory of a server.
    """
    import keras

    tracked = archive._tf_trackable
    for name in ("variables", "trainable_variables", "non_trainable_variables"):
        listed = getattr(tracked, name)
        setattr(tracked, name, [one.value if isinstance(one, keras.Variable) else one for one in listed])


def _build(job: Job, model: Any) -> None:
    """Has the model make its weights, which a subclassed one does when it is first called."""
    import tensorflow as tf

    for name, inputs in job.input_signatures.items():
        method = job.signatures.get(name or DEFAULT, "__call__")
        specs = _tensor_specs(inputs)
        _method(model, method)(
            *(
                tf.zeros([size or 1 for size in spec.shape] if spec.shape.rank is not None else [1], spec.dtype)
                for spec in specs
            )
        )
    if not model.built:
        raise _no_inputs(DEFAULT, "__call__")


def _own_inputs(model: Any) -> Any:
    """What the model says of its inputs; None where it was never built."""
    from keras.src.export.export_utils import get_input_signature

    try:
        return get_input_signature(model)
    except (ValueError, AttributeError, TypeError):
        return None


def _of_default(inputs: Mapping[str, Sequence[InputText]]) -> Sequence[InputText] | None:
    return inputs.get("", inputs.get(DEFAULT))


def _export_module(job: Job, model: Any) -> list[str]:
    import tensorflow as tf

    methods = dict(job.signatures)
    given = _of_default(job.input_signatures)
    if DEFAULT not in methods:
        found = next(
            (name for name in ("serve", "__call__", "call", "predict") if callable(getattr(model, name, None))), None
        )
        if found is not None and (given is not None or _has_input_signature(getattr(model, found))):
            methods = {DEFAULT: found, **methods}
    signatures = dict(getattr(model, "signatures", {})) if not methods else {}
    for name, method_name in methods.items():
        method = _method(model, method_name)
        written = given if name == DEFAULT else job.input_signatures.get(name)
        if written is not None:
            function = tf.function(method) if not _is_function(method) else method
            signatures[name] = function.get_concrete_function(*_tensor_specs(written))
        elif _has_input_signature(method):
            signatures[name] = method.get_concrete_function()
        else:
            raise _no_inputs(name, method_name)
    if not signatures:
        raise ExportError(
            f"{type(model).__name__} has no signature: say which method is one, with --signature NAME=METHOD, and what "
            "it takes, with --input-signature NAME:x=float32[?,3]"
        )
    tf.saved_model.save(model, job.folder, signatures=signatures)
    return sorted(signatures)


def _no_inputs(name: str, method: str) -> ExportError:
    prefix = "" if name == DEFAULT else f"{name}:"
    return ExportError(
        f"the inputs of {method} are not known, for signature {name}: say what it takes, such as "
        f"--input-signature '{prefix}x=float32[?,3]'"
    )


if __name__ == "__main__":
    main()
