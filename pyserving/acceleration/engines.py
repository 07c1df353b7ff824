"""The engines that may take a signature over from TensorFlow: how each compiles it, and runs what was compiled."""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.model import Array, Signature
from pyserving.platforms.openvino import runtime
from pyserving.platforms.openvino.saved_model import compile_artefact, convert_signature
from pyserving.platforms.tflite import litert
from pyserving.platforms.tflite.model import TFLiteModel
from pyserving.platforms.tflite.model_file import FILE_NAME
from pyserving.platforms.tflite.options import TFLiteOptions


class CompiledSignature(Protocol):
    """One signature on one engine. May be run from several threads at once."""

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], *, timeout: float | None = None, inline: bool = False
    ) -> list[Array]:
        """As ``Model.run``. Raises ServingError."""
        ...

    def close(self) -> None:
        """Gives back the memory. No run may be going on."""
        ...


class Engine(Protocol):
    """Reads SavedModels, and runs them with its own kernels."""

    @property
    def name(self) -> str: ...

    @property
    def packages(self) -> Sequence[str]:
        """Distributions whose versions decide what comes out of it."""
        ...

    def is_installed(self) -> bool:
        """Whether it can run what was compiled. Imports nothing."""
        ...

    def compile(self, folder: str, tags: Sequence[str], signature: Signature, artefact: str) -> None:
        """Writes what it makes of a signature into the new folder ``artefact``. Takes seconds, and may crash.

        Raises ServingError where it cannot.
        """
        ...

    def open(self, artefact: str, signature: Signature, num_threads: int) -> CompiledSignature:
        """What was compiled, ready to run. Raises ServingError. ``num_threads`` share one operation; 0: all cores."""
        ...


class OpenVinoEngine:
    """An ``Engine``: OpenVINO on the CPU."""

    name = "openvino"
    packages = ("openvino",)

    def is_installed(self) -> bool:
        return runtime.is_installed()

    def compile(self, folder: str, tags: Sequence[str], signature: Signature, artefact: str) -> None:
        convert_signature(folder, tags, signature.name, artefact)

    def open(self, artefact: str, signature: Signature, num_threads: int) -> CompiledSignature:
        return compile_artefact(artefact, signature, num_threads)


class TFLiteEngine:
    """An ``Engine``: LiteRT. Its converter is a part of TensorFlow's Python package."""

    name = "tflite"
    packages = ("ai-edge-litert", "tensorflow-cpu", "tensorflow")

    def is_installed(self) -> bool:
        return litert.is_installed()

    def compile(self, folder: str, tags: Sequence[str], signature: Signature, artefact: str) -> None:
        # Half a GB and some seconds: only the process of a trial imports it.
        import tensorflow as tf

        try:
            converter = tf.lite.TFLiteConverter.from_saved_model(
                os.fspath(folder), signature_keys=[signature.name], tags=set(tags)
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            content = converter.convert()
        except Exception as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ServingError(Code.UNIMPLEMENTED, f"LiteRT's converter: {first[:300]}") from None
        with open(os.path.join(artefact, FILE_NAME), "wb") as file:
            file.write(content)

    def open(self, artefact: str, signature: Signature, num_threads: int) -> CompiledSignature:
        threads = num_threads or os.cpu_count() or 1
        return _TFLiteSignature(TFLiteModel(artefact, TFLiteOptions(num_threads=threads)), signature)


class _TFLiteSignature:
    def __init__(self, model: TFLiteModel, signature: Signature) -> None:
        """Raises UNIMPLEMENTED where the converter has made other inputs or outputs than the signature has."""
        self._model = model
        self._signature = compiled = model.signatures.get(signature.name) or next(iter(model.signatures.values()))
        for specs, found in ((signature.inputs, compiled.inputs), (signature.outputs, compiled.outputs)):
            wanted = {name: spec.dtype for name, spec in specs.items()}
            given = {name: spec.dtype for name, spec in found.items()}
            if wanted != given:
                raise ServingError(
                    Code.UNIMPLEMENTED, f"LiteRT's converter has made {_text(given)}; expected {_text(wanted)}"
                )

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], *, timeout: float | None = None, inline: bool = False
    ) -> list[Array]:
        return self._model.run(self._signature, inputs, outputs, timeout=timeout, inline=inline)

    def close(self) -> None:
        self._model.close()


_ALL: tuple[Engine, ...] = (OpenVinoEngine(), TFLiteEngine())
ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in _ALL}


def versions(engine: Engine) -> str:
    """Of the packages that the engine consists of, as far as they are installed."""
    found = []
    for package in engine.packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _text(dtypes: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {getattr(dtype, 'text', dtype)}" for name, dtype in sorted(dtypes.items()))
