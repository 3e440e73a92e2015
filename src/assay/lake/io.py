"""PyIceberg's own files through `Files`: read whole, put once at the close, so durable before the catalog names them."""  # noqa: A005 - the field's word for it

import io
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from pyiceberg.io import PY_IO_IMPL, FileIO, InputFile, InputStream, OutputFile, OutputStream

from assay.errors import LakeDamaged
from assay.ports import Files

_FILES = "assay.files"


def properties(files: Files, base: str) -> dict[str, Any]:
    """What a catalog is opened with so that its tables' files go through `files`; a location is `base` and a name.

    They belong to the catalog, never to a table: readers outside of the lake must not meet them.
    """
    return {PY_IO_IMPL: f"{__name__}.LakeIO", _FILES: (files, base)}


class LakeIO(FileIO):
    """See `pyiceberg.io.FileIO`. It deletes nothing: upkeep alone does."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        super().__init__(dict(properties))
        self.files: Files = properties[_FILES][0]
        self.base: str = properties[_FILES][1]

    def name_of(self, location: str) -> str:
        """The object's name; LakeDamaged where the location is not of this lake."""
        if not location.startswith(self.base):
            raise LakeDamaged(f"a table names {location}, which is not of this lake ({self.base})")
        return location.removeprefix(self.base)

    def location_of(self, name: str) -> str:
        """What tables call the object."""
        return self.base + name

    def new_input(self, location: str) -> InputFile:
        return _Input(location, self)

    def new_output(self, location: str) -> OutputFile:
        return _Output(location, self)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Nothing: PyIceberg asks for it after a lost race, and what nothing names is upkeep's."""


class _Input(InputFile):
    def __init__(self, location: str, owner: LakeIO) -> None:
        super().__init__(location)
        self._owner = owner

    def __len__(self) -> int:
        return len(self._read())

    def exists(self) -> bool:
        return self._owner.files.exists(self._owner.name_of(self.location))

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002 - PyIceberg's signature
        return io.BytesIO(self._read())

    def _read(self) -> bytes:
        return self._owner.files.read(self._owner.name_of(self.location))


class _Output(OutputFile):
    def __init__(self, location: str, owner: LakeIO) -> None:
        super().__init__(location)
        self._owner = owner
        self._size: int | None = None

    def __len__(self) -> int:
        return len(self.to_input_file()) if self._size is None else self._size

    def exists(self) -> bool:
        return self.to_input_file().exists()

    def to_input_file(self) -> InputFile:
        return _Input(self.location, self._owner)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: ARG002 - Avro asks to overwrite; all names hold a fresh UUID
        return _Buffer(self)

    def put(self, data: bytes) -> None:
        name = self._owner.name_of(self.location)
        if not self._owner.files.put_new(name, data, "tables.metadata"):
            raise LakeDamaged(f"{name} was to be written, and holds something else already")
        self._size = len(data)


class _Buffer(io.BytesIO):
    """Bytes that are put at the close, unless an exception closes them."""

    def __init__(self, out: _Output) -> None:
        super().__init__()
        self._out = out

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            super().close()
        self.close()

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            self._out.put(data)

    def __del__(self) -> None:
        """Bytes that nobody closed are nobody's."""
        super().close()
