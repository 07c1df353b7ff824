"""What a client's process has to load."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["pyserving.client", "pyserving.client.grpc_channel"])
def test_neither_tensorflow_nor_the_server_is_imported(module: str) -> None:
    program = (
        f"import sys, pyserving, {module}\nprint(pyserving.Client)\n"
        "unwanted = [name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'rich', 'click', 'ngh2')\n"
        "    or name.startswith(('pyserving.server', 'pyserving.transport', 'pyserving.api', 'pyserving.sources'))]\n"
        "assert not unwanted, unwanted"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_the_package_alone_is_light() -> None:
    program = (
        "import sys, pyserving; assert not {'asyncio', 'google.protobuf', 'grpc', 'httptools'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
