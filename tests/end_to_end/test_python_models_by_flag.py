"""The flag that lets code in version folders run."""

from pathlib import Path

from serving import Serving

CODE = """
import numpy as np
from pyserving import Model, Tensor

class Double(Model):
    def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
        print("a line of the model's own")
        return 2 * x
"""


def test_code_runs_where_the_flag_says_so(tmp_path: Path) -> None:
    (tmp_path / "double" / "1").mkdir(parents=True)
    (tmp_path / "double" / "1" / "model.py").write_text(CODE)
    for choice, workers in (("on", 1), ("on", 2), ("process", 2)):
        server = Serving(str(tmp_path), f"--python-models={choice}", f"--workers={workers}").wait_until_ready()
        try:
            assert server.post_json("/v1/models/double:predict", {"instances": [1.5]}) == (200, {"predictions": [3.0]})
        finally:
            assert server.stop() == 0
    assert "a line of the model's own" in server.log()
    assert sorted(path.name for path in (tmp_path / "double" / "1").iterdir()) == ["model.py"]
