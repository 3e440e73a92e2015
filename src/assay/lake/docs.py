"""What a release keeps for dbt's documentation page: a manifest and a catalog as dbt writes them, of the project as it was built."""

import hashlib

import msgspec
from isal import igzip

from assay.errors import LakeDamaged
from assay.lake.formats import refuse_newer
from assay.ports import Files

FORMAT = 1


class Docs(msgspec.Struct, frozen=True):
    """The two texts of JSON that dbt's page is made of."""

    manifest: msgspec.Raw
    catalog: msgspec.Raw
    format: int = FORMAT


def name_of(release_id: str) -> str:
    """The object name of what a build put."""
    return f"serving/docs-{release_id}.json.gz"


def encode(docs: Docs) -> bytes:
    """The object as it is stored: the same bytes for the same texts."""
    return bytes(igzip.compress(msgspec.json.encode(docs), 1, mtime=0))


def read(files: Files, name: str, sha256: str) -> Docs:
    """What a release names so; LakeDamaged if it is not what was written."""
    data = files.read(name)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise LakeDamaged(f"{name} is not what was written; `assay build` makes it anew")
    text = igzip.decompress(data)
    refuse_newer(name, text, FORMAT)
    return msgspec.json.decode(text, type=Docs)
