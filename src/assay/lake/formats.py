"""What a newer assay wrote, refused by name: objects by the `format` they say, the whole lake by its number."""

import hashlib
import re

import msgspec

from assay.errors import LakeDamaged, WrongFormat
from assay.ports import Files

FORMAT, FIRST = 2, 1
"""The format of the lakes that this assay makes; that of the lakes that say none."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec says of bytes that are no JSON of a kind; the second where a text is no UTF-8."""
_WHERE = "bronze/_format/"  # where it outlives what is made anew, and comes along into a backup
_NAME = re.compile(rf"{_WHERE}(\d{{4,9}})\.json", re.ASCII)


class _Format(msgspec.Struct):
    format: int


class Number(msgspec.Struct, frozen=True):
    """What is stored of a lake's format: `lake` is its number, `assay` the version that put it, `sha256` that of these two."""

    lake: int
    assay: str
    sha256: str
    format: int = 1


def refuse_newer(name: str, text: bytes, known: int) -> None:
    """WrongFormat if this JSON says a greater `format` than is known, whatever else it holds."""
    try:
        said = msgspec.json.decode(text, type=_Format).format
    except msgspec.DecodeError:
        return
    if said > known:
        raise WrongFormat(f"{name} was written by a newer assay (format {said}, this one reads {known}); update assay")


def of(files: Files) -> int:
    """The format of a lake: the greatest number that was put. Two looks and one small object, however much there is.

    WrongFormat if it is newer than `FORMAT`, LakeDamaged if it is not what was written.
    """
    number = max((int(its[1]) for name in files.names(_WHERE) if (its := _NAME.fullmatch(name))), default=FIRST)
    while files.exists(name_of(number + 1)):  # a listing may be late, this is not
        number += 1
    if number == FIRST:
        return FIRST
    name = name_of(number)
    data = files.read(name)
    try:
        said: Number | None = msgspec.json.decode(data, type=Number)
    except UNREADABLE:
        said = None
    if number > FORMAT:
        wrote = f"assay {said.assay}" if said else "a newer assay"
        raise WrongFormat(
            f"the lake's data has format {number}, made by {wrote}; this is assay {_version()}, which knows format {FORMAT}. "
            f"Nothing was changed: install {wrote} or a newer one"
        )
    if said is None or data != _encoded(number, said.assay):
        raise LakeDamaged(f"{name} is not what was written; restore it from a copy")
    return number


def begun(files: Files) -> bool:
    """Whether anything was ever put into a lake's log."""
    return files.exists(name_of(FORMAT)) or next(iter(files.names("bronze/")), None) is not None


def begin(files: Files) -> None:
    """Put today's number before the first object of a lake; where there is one already, nothing."""
    if not begun(files):
        put(files, FORMAT)


def put(files: Files, number: int) -> None:
    """Put that a lake has this format from now on. Who comes second finds it there, whichever version it names."""
    files.put_new(name_of(number), _encoded(number, _version()), "lake.format")


def name_of(number: int) -> str:
    """The object name of a number."""
    return f"{_WHERE}{number:04}.json"


def _encoded(number: int, assay: str) -> bytes:
    sha256 = hashlib.sha256(f"{number} {assay}".encode()).hexdigest()
    return msgspec.json.format(msgspec.json.encode(Number(number, assay, sha256)), indent=1)


def _version() -> str:
    from importlib.metadata import version

    return version("assay")
