"""How sessions are set up: what the server was told, as TensorFlow's ``ConfigProto``."""

from dataclasses import dataclass

from pyserving.core.errors import invalid_argument
from pyserving.protos.messages import ConfigProto, RewriterConfig
from pyserving.sources.text_proto import read_text_proto

UNSTEADY_POOL = 1
"""Which of a session's thread pools runs take whose kernels may keep a thread for long: loops, decoders."""

_UNSTEADY_THREADS = 32
"""As many as there may be such runs at a time: one that loops without end must not keep all others waiting."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What holds for all TensorFlow models of a server.

    Thread pools are the process's: the sizes that the first session asks for hold for all, unless the config
    file sets ``use_per_session_threads``.
    """

    tags: tuple[str, ...] = ("serve",)
    """Which of a SavedModel's graphs to load: the one with exactly these tags."""
    intra_op_parallelism: int = 0
    """Threads that share one operation; 0: what the config file says, else one per CPU."""
    inter_op_parallelism: int = 0
    """Operations that run at the same time; 0: what the config file says, else one per CPU."""
    config_file: str = ""
    """A ``ConfigProto`` in text format, under the values above and below; empty: none."""
    config: bytes = b""
    """The same, serialized, in place of a file."""
    bfloat16: bool = False
    """Compute in bfloat16 what loses little by it, on CPUs that have instructions for it."""
    gpu_memory_fraction: float = 0.0
    """Share of each GPU's memory to take, 0 to 1; 0: what the config file says, else TensorFlow decides."""

    def config_proto(self) -> ConfigProto:
        """Raises ServingError where the config file cannot be read, or a number would end the process in TensorFlow."""
        config = self._given_config()
        if self.intra_op_parallelism:
            config.intra_op_parallelism_threads = self.intra_op_parallelism
        if self.inter_op_parallelism:
            config.inter_op_parallelism_threads = self.inter_op_parallelism
        if config.intra_op_parallelism_threads < 0:
            raise invalid_argument(f"Expected 0 or more intra-op threads, got {config.intra_op_parallelism_threads}")
        if self.bfloat16:
            config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = RewriterConfig.ON
        if self.gpu_memory_fraction:
            config.gpu_options.per_process_gpu_memory_fraction = self.gpu_memory_fraction
        return config

    def session_config(self) -> ConfigProto:
        """``config_proto``, and with it the thread pools, unless it says something of them. Raises ServingError."""
        config = self.config_proto()
        if not config.use_per_session_threads and not config.session_inter_op_thread_pool:
            # Pools of these names are made once, and shared by all sessions of the process.
            config.session_inter_op_thread_pool.add(global_name="pyserving")
            config.session_inter_op_thread_pool.add(global_name="pyserving_unsteady", num_threads=_UNSTEADY_THREADS)
        return config

    def _given_config(self) -> ConfigProto:
        if self.config_file:
            return read_text_proto(self.config_file, ConfigProto)
        return ConfigProto.FromString(self.config)
