"""model.py files for tests."""

import textwrap
from pathlib import Path

from pyserving.sources.model_config import ModelConfig


def write_model(folder: Path, name: str, code: str, version: int = 1) -> ModelConfig:
    version_folder = folder / name / str(version)
    version_folder.mkdir(parents=True)
    (version_folder / "model.py").write_text(textwrap.dedent(code))
    return ModelConfig(name, str(folder / name))


SCALE = """
    import numpy as np
    from pyserving import InvalidInput, Model, Tensor, signature

    class Scale(Model):
        def load(self, folder):
            self.factor = 2.0

        def predict(self, x: Tensor[np.float32, None], add: Tensor[np.float32] = 1.0) -> Tensor[np.float32, None]:
            if np.isnan(x).any():
                raise InvalidInput("x must be numbers")
            return x * self.factor + add

        @signature
        async def describe(self, x: Tensor[str, None]) -> {"upper": Tensor[str, None], "size": Tensor[np.int64, None]}:
            return {"upper": [text.upper() for text in x], "size": [len(text) for text in x]}

        @signature
        def breaks(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return {}["missing"]
    """

PIPELINE = """
    import numpy as np
    from pyserving import Model, Tensor

    class Pipeline(Model):
        def predict(self, text: Tensor[str, None]) -> {"y": Tensor[np.float32, None]}:
            numbers = [float(one) for one in text]
            return {"y": self.models["half_plus_two"].predict(x=numbers)["y"]}
    """

COUNT = """
    import asyncio
    import numpy as np
    from pyserving import Model, Tensor, signature

    class Count(Model):
        def load(self, folder):
            self.folder = folder

        def predict(self, to: Tensor[np.int64]) -> {"number": Tensor[np.int64]}:
            try:
                for number in range(int(to)):
                    if number == 1000:
                        raise RuntimeError("too far")
                    yield {"number": number}
            finally:
                (self.folder / "closed").touch()

        @signature
        async def forever(self, start: Tensor[np.int64]) -> {"number": Tensor[np.int64]}:
            try:
                yield {"number": start}
                await asyncio.Event().wait()
            finally:
                (self.folder / "closed").touch()
    """

SQUARES = """
    import numpy as np
    from pyserving import Model, Tensor, signature

    class Squares(Model):
        def predict(self, to: Tensor[np.int64]) -> {"square": Tensor[np.int64]}:
            for piece in self.models["count"].stream(to=to):
                yield {"square": piece["number"] ** 2}

        @signature
        async def forever(self, start: Tensor[np.int64]) -> {"square": Tensor[np.int64]}:
            async for piece in self.models["count"].stream_async({"start": start}, signature="forever"):
                yield {"square": piece["number"] ** 2}

        @signature
        def total(self, to: Tensor[np.int64]) -> Tensor[np.int64]:
            return sum(int(piece["number"]) for piece in self.models["count"].stream(to=to))

        @signature
        def first(self, to: Tensor[np.int64]) -> Tensor[np.int64]:
            return next(self.models["count"].stream(to=to))["number"]
    """
