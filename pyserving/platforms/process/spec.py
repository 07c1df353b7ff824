"""What the process of a model is told to load, and how it is to be kept."""

from dataclasses import asdict, dataclass
from typing import Any

from pyserving.core.servable import ServableId
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.python.composition import OpenSession
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.platforms.tflite.options import TFLiteOptions


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One version, of whatever platform."""

    servable: ServableId
    platform: str
    """Its name in the registry of platforms."""
    folder: str
    context: PlatformContext
    load_time_limit: float
    """Seconds from the start of the process until it can answer."""
    memory_limit: int | None = None
    """Bytes that the process may take beyond what it has when it begins to load; on Linux."""
    time_limit: float | None = None
    """Seconds that a run may take before the process is killed, where the model itself sets no limit."""

    @property
    def open_session(self) -> OpenSession:
        return self.context.open_session


def to_json(spec: ProcessSpec) -> dict[str, Any]:
    """What the process needs to know. Options that hold bytes travel as Latin-1."""
    session = asdict(spec.context.session_options)
    session["config"] = spec.context.session_options.config.decode("latin-1")
    return {
        "name": spec.servable.name,
        "version": spec.servable.version,
        "platform": spec.platform,
        "folder": spec.folder,
        "num_threads": spec.context.num_threads,
        "parallel_runs": spec.context.parallel_runs,
        "session_options": session,
        "tflite_options": asdict(spec.context.tflite_options),
        "load_time_limit": spec.load_time_limit,
        "memory_limit": spec.memory_limit,
        "time_limit": spec.time_limit,
        "op_libraries": list(spec.context.op_libraries),
    }


def from_json(value: dict[str, Any], open_session: OpenSession) -> ProcessSpec:
    """In the process itself. ``open_session``: how its model asks others, which are elsewhere."""
    session = value["session_options"]
    session = {**session, "tags": tuple(session["tags"]), "config": session["config"].encode("latin-1")}
    return ProcessSpec(
        servable=ServableId(value["name"], value["version"]),
        platform=value["platform"],
        folder=value["folder"],
        context=PlatformContext(
            num_threads=value["num_threads"],
            parallel_runs=value["parallel_runs"],
            session_options=SessionOptions(**session),
            tflite_options=TFLiteOptions(**value["tflite_options"]),
            python_options=PythonOptions(PythonModels.ON),
            open_session=open_session,
            op_libraries=value["op_libraries"],
            isolated=True,
        ),
        load_time_limit=value["load_time_limit"],
        memory_limit=value["memory_limit"],
        time_limit=value["time_limit"],
    )
