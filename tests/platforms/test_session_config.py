"""What the server was told of sessions, as a ConfigProto."""

from pathlib import Path

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.protos.messages import ConfigProto, RewriterConfig


def test_nothing_said_is_an_empty_config() -> None:
    assert SessionOptions().config_proto().SerializeToString() == b""


def test_parallelism() -> None:
    config = SessionOptions(intra_op_parallelism=3, inter_op_parallelism=2).config_proto()
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (3, 2)


def test_options_go_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "session.config"
    file.write_text(
        "intra_op_parallelism_threads: 7 inter_op_parallelism_threads: 5 use_per_session_threads: true\n"
        "graph_options { optimizer_options { global_jit_level: ON_1 } }"
    )
    config = SessionOptions(intra_op_parallelism=3, config_file=str(file)).config_proto()
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (3, 5)
    assert config.use_per_session_threads
    assert config.graph_options.optimizer_options.global_jit_level == 1


def test_a_number_of_threads_that_would_end_the_process() -> None:
    with pytest.raises(ServingError, match="Expected 0 or more intra-op threads, got -1") as caught:
        SessionOptions(intra_op_parallelism=-1).config_proto()
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_gpu_memory_and_lower_precision() -> None:
    given = ConfigProto(intra_op_parallelism_threads=7, allow_soft_placement=True).SerializeToString()
    config = SessionOptions(
        config=given, intra_op_parallelism=3, bfloat16=True, gpu_memory_fraction=0.25
    ).config_proto()
    assert config.allow_soft_placement
    assert config.intra_op_parallelism_threads == 3
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.25
    assert config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == RewriterConfig.ON


def test_a_file_that_is_no_config(tmp_path: Path) -> None:
    file = tmp_path / "session.config"
    file.write_text("intra_op_parallelism_threads: many")
    with pytest.raises(ServingError, match="Invalid protobuf file") as caught:
        SessionOptions(config_file=str(file)).config_proto()
    assert caught.value.code == Code.INVALID_ARGUMENT
    with pytest.raises(ServingError) as caught:
        SessionOptions(config_file=str(tmp_path / "missing")).config_proto()
    assert caught.value.code == Code.NOT_FOUND


def test_sessions_share_two_pools_unless_the_config_has_its_own() -> None:
    config = SessionOptions(inter_op_parallelism=2).session_config()
    assert [(pool.global_name, pool.num_threads) for pool in config.session_inter_op_thread_pool] == [
        ("pyserving", 0),
        ("pyserving_unsteady", 32),
    ]
    given = ConfigProto(use_per_session_threads=True)
    assert SessionOptions(config=given.SerializeToString()).session_config() == given
    given = ConfigProto()
    given.session_inter_op_thread_pool.add(num_threads=1)
    assert SessionOptions(config=given.SerializeToString()).session_config() == given
