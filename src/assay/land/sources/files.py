"""CSV files of one directory: each is landed whole, a row becomes a JSON object of texts under the header's names."""

import csv
import difflib
import hashlib
import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from assay.clock import now
from assay.errors import ContractError, SettingsError, SourceBusy, SourceRefused, SourceSuspect
from assay.land.http import one_line
from assay.land.source import Ask, Page, Request, Source, SourceSettings, options_of
from assay.ports import Secrets

LARGEST = 512 * 2**20  # bytes of one file: it is read at once


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a contract says about a dataset of this source.

    Attributes:
        path: a glob below the directory, such as `trades.csv` or `2024/*.csv`; each match is one page, by name.
        delimiter: one character between cells.
        encoding: as Python names it; a byte order mark of UTF-8 is no part of the first name.
        skip_lines: lines before the header, which are left out.
        may_lack: headers the contract reads and a file need not have; its rows are then null there.
    """

    path: str
    delimiter: str = ","
    encoding: str = "utf-8"
    skip_lines: Annotated[int, msgspec.Meta(ge=0)] = 0
    may_lack: tuple[str, ...] = ()


def check(options: Mapping[str, Any]) -> Options:
    """A contract's options as `Options`; ContractError for what means nothing here."""
    said = options_of(Options, options)
    try:
        "".encode(said.encoding)
    except LookupError:
        what = f"encoding {said.encoding!r} is none that Python knows"
        raise ContractError(f"{what}, such as utf-8, cp1252 or utf-16") from None
    if len(said.delimiter) != 1 or said.delimiter in '"\r\n ':
        raise ContractError("delimiter must be one character, and no quote, space or line break")
    pattern = PurePosixPath(said.path)
    if pattern.is_absolute() or ".." in pattern.parts or not pattern.parts:
        raise ContractError(f"path {said.path!r} must name files below the directory of base_url")
    return said


@asynccontextmanager
async def connect(secrets: Secrets, settings: SourceSettings) -> AsyncIterator[Path]:  # noqa: ARG001 - files need none
    """The directory of `base_url = "file:DIRECTORY"`, which nothing read from it may leave."""
    yield _directory(settings)


async def fetch(ask: Ask, remote: Path) -> AsyncIterator[Page]:
    """One page a file, in the order of names; SourceSuspect, with file and line, for what is no plain CSV.

    So is a file whose header lacks a field the contract reads: its rows would be null there without a word.
    """
    options = check(ask.options)
    if ask.shard != "all" or ask.window:
        raise ContractError(f"{ask.dataset}: files are landed whole: say `every`, and no universe, window or start")
    for name in _names(ask, options, remote):
        data = _read(remote / name, remote, name)
        records = list(_records(data, options, name, ask.fields))
        digest = hashlib.sha256(data).hexdigest()
        yield Page(Request(name, {}, now(), 200, len(data), digest, len(records)), records, raw=data, kind="csv")


def _directory(settings: SourceSettings) -> Path:
    directory = Path(settings.base_url.removeprefix("file:"))
    if not settings.base_url.startswith("file:") or not directory.is_dir():
        raise SettingsError(f"base_url {settings.base_url!r} must be file: and a directory that exists")
    return directory.resolve()


def _names(ask: Ask, options: Options, directory: Path) -> list[str]:
    """The files the glob matches, sorted by their names below the directory."""
    try:
        found = [one for one in directory.glob(options.path) if not one.is_dir()]
    except ValueError as error:
        raise ContractError(f"{ask.dataset}: path {options.path!r} is no glob: {error}") from None
    if not found:
        raise SourceSuspect(f"{ask.dataset}: no file of {directory} is called {options.path}")
    return sorted(one.relative_to(directory).as_posix() for one in found)


def _read(path: Path, directory: Path, name: str) -> bytes:
    """The file's bytes as they stood at one moment."""
    target = path
    try:
        target = path.resolve()
        target.stat()  # from Python 3.13 on it is this that fails for a loop
    except (FileNotFoundError, PermissionError):
        pass
    except (RuntimeError, OSError):
        raise SourceRefused(f"{name} is a link that leads to itself; take it away") from None
    if not target.is_relative_to(directory):
        raise SourceRefused(f"{name} is a link that leads out of {directory}; put the file itself there")
    if not target.is_file():
        raise SourceRefused(f"{name} is no file that can be read; take it away or name others in `path`")
    try:
        before = target.stat()
        if before.st_size > LARGEST:
            raise SourceRefused(f"{name} holds {before.st_size} bytes, more than {LARGEST}; cut it into several files")
        data = target.read_bytes()
        after = target.stat()
    except PermissionError:
        raise SourceRefused(f"{name} may not be read; its owner must allow it") from None
    except FileNotFoundError:
        raise SourceBusy(f"{name} went away while it was looked at; run it again") from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise SourceBusy(f"{name} is being written at this moment; run it again when that is done")
    return data


def _records(data: bytes, options: Options, name: str, fields: Sequence[str]) -> Iterator[bytes]:
    """The rows as JSON objects; empty lines are none, missing cells at the end are null."""
    rows = _rows(_text(data, options, name), options, name)
    wanted = [one for one in fields if one not in options.may_lack]
    names, width = _header(rows, wanted, options.skip_lines, name)
    for at, cells in rows:
        if len(cells) > width or any(cells[len(names) :]):
            raise SourceSuspect(f"{name}:{at}: {len(cells)} cells, but the header names {len(names)} columns")
        missing = [None] * (len(names) - len(cells))
        try:
            yield msgspec.json.encode(dict(zip(names, [*cells[: len(names)], *missing], strict=True)))
        except UnicodeEncodeError:
            raise SourceSuspect(f"{name}:{at}: half a character, which is no text") from None


def _header(
    rows: Iterator[tuple[int, list[str]]], wanted: Sequence[str], skipped: int, name: str
) -> tuple[list[str], int]:
    """The columns' names, and how many cells a line may have; SourceSuspect where names are wrong or wanting.

    Programs that end every line with a delimiter name one column less than they have cells.
    """
    line, header = next(rows, (skipped + 1, []))
    names = [one.strip() for one in header]
    if not names:
        what = f"nothing follows the {skipped} lines of `skip_lines`" if skipped else "the file is empty"
        raise SourceSuspect(f"{name}:{line}: {what}; the first line must name the columns")
    while len(names) > 1 and not names[-1]:
        names.pop()
    if wrong := _wrong(names, wanted):
        with suppress(SourceSuspect):  # what comes later is looked at for a hint only
            for at, cells in islice(rows, 50):
                if wanted and {one.strip() for one in cells}.issuperset(wanted):
                    wrong = f"this does not name the columns, line {at} does: say `skip_lines: {at - 1}`"
                    break
        raise SourceSuspect(f"{name}:{line}: {wrong}")
    return names, len(header)


def _wrong(names: Sequence[str], wanted: Sequence[str]) -> str:
    """What is wrong with a header, or nothing."""
    for number, one in enumerate(names, 1):
        if not one or names.index(one) != number - 1:
            what = f"{one_line(one)!r} stands there twice" if one else f"column {number} has no name"
            return f"the header must name each column once, but {what}"
    lacking = [one for one in wanted if one not in names]
    if not lacking:
        return ""
    near = [difflib.get_close_matches(one, names, 1) for one in lacking]
    told = [f"{a!r} (did you mean {one_line(b[0])!r}?)" if b else repr(a) for a, b in zip(lacking, near, strict=True)]
    return (
        f"the header has no {', '.join(told)}, which the contract reads; it names {one_line(', '.join(names))}. "
        f"Mend the file or the column's `from`; an optional column's absence is permitted by the option "
        f"`may_lack: [{', '.join(lacking)}]`"
    )


def _text(data: bytes, options: Options, name: str) -> str:
    try:
        text = data.decode(options.encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SourceSuspect(
            f"{name}:{line}: not {options.encoding}; say which encoding it is in the contract's options"
        ) from None
    return text.removeprefix("\ufeff")


def _rows(text: str, options: Options, name: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty with the line it begins at, counted from 1; those of `skip_lines` are no rows."""
    lines = io.StringIO(text, newline="")
    skipped = sum(1 for _ in islice(lines, options.skip_lines))
    reader = csv.reader(lines, delimiter=options.delimiter, strict=True)
    while True:
        line = skipped + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = "a quote is opened and never closed" if "end of data" in str(error) else str(error)
            raise SourceSuspect(f"{name}:{line}: {what}; the row that begins here cannot be read") from None
        if cells:
            yield line, cells


source = Source(connect, fetch, version="1", check=check)
