"""Version folders with a table: ``table.csv``, ``table.tsv``, ``table.parquet`` or ``table.txt``."""

from pyserving.core.servable import ServableId
from pyserving.platforms.folder_loader import FolderLoader
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.table.files import find_file
from pyserving.platforms.table.model import TableModel

_RAM_PER_FILE_BYTE = 12.0
"""While it loads; measured with a million rows of three columns. Afterwards it is half of that."""


class TablePlatform:
    """A ``Platform``."""

    def __init__(self, context: PlatformContext) -> None:
        pass

    def recognises(self, folder: str) -> bool:
        return find_file(folder) is not None

    def loader(self, servable: ServableId, folder: str) -> FolderLoader[TableModel]:  # noqa: ARG002
        return FolderLoader(folder, TableModel, ram_per_file_byte=_RAM_PER_FILE_BYTE)
