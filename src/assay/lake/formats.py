"""Objects that a newer assay wrote, refused by name."""

import msgspec

from assay.errors import LakeDamaged


class _Format(msgspec.Struct):
    format: int


def refuse_newer(name: str, text: bytes, known: int) -> None:
    """LakeDamaged if this JSON says a greater `format` than is known, whatever else it holds."""
    try:
        said = msgspec.json.decode(text, type=_Format).format
    except msgspec.DecodeError:
        return
    if said > known:
        raise LakeDamaged(f"{name} was written by a newer assay (format {said}, this one reads {known}); update assay")
