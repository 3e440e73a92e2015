"""CSV files of one directory: each is landed whole, a row becomes a JSON object of texts under the header's names."""

import codecs
import csv
import difflib
import hashlib
import io
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from assay.clock import now
from assay.errors import ContractError, SettingsError, SourceBusy, SourceRefused, SourceSuspect
from assay.land.http import one_line
from assay.land.source import Ask, Content, Original, Page, Request, Source, SourceSettings, options_of, sha256_of
from assay.ports import Secrets

LARGEST = 512 * 2**20  # bytes of one file; whoever verifies what is kept of it inflates it at once
PAGE = 8 * 2**20  # bytes of records
CHUNK = 2**20  # bytes read at once
MANY = 1000  # columns among which a name like the one that lacks is looked for
KINDS = {
    b"PK\x03\x04": "a workbook or another ZIP archive",
    b"\xd0\xcf\x11\xe0": "a workbook of an old Excel",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
}
LONGEST = 8 * 2**20  # characters of one line
YOUNG = 2e9  # nanoseconds that a file must have stood still for its state to tell what it holds


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a contract says about a dataset of this source.

    Attributes:
        path: a glob below the directory, such as `trades.csv` or `2024/*.csv`; the matches are landed by name.
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
        codecs.getincrementaldecoder(said.encoding)
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
    """The files in the order of their names, each in pages of at most 8 MB of records; with its last one comes the file.

    SourceSuspect, with file and line, for what is no plain CSV. So is a file whose header lacks a field the contract
    reads: its rows would be null there without a word. SourceBusy where a file changed while it was read.
    """
    options = check(ask.options)
    if ask.shard != "all" or ask.window:
        raise ContractError(f"{ask.dataset}: files are landed whole: say `every`, and no universe, window or start")
    for name in _names(ask, options, remote):
        for page in _pages(_Reading(remote / name, remote, name), options, name, ask.fields):
            yield page


def _directory(settings: SourceSettings) -> Path:
    directory = Path(settings.base_url.removeprefix("file:"))
    if not settings.base_url.startswith("file:") or not directory.is_dir():
        raise SettingsError(f"base_url {settings.base_url!r} must be file: and a directory that exists")
    return directory.resolve()


def there(options: Mapping[str, Any], settings: SourceSettings, known: Mapping[str, Content]) -> Mapping[str, Content]:
    """What the files hold now, by name; one that stands as `known` has it is not read again."""
    said, directory = check(options), _directory(settings)
    return {name: _content(directory, name, known.get(name)) for name in _matches(said, directory)}


def _content(directory: Path, name: str, known: Content | None) -> Content:
    reading = _Reading(directory / name, directory, name)
    if known and known.state and known.state == reading.state():
        return known
    for _ in reading.chunks():
        pass
    state = reading.state()
    # Two writes within a tick of the disk's clock leave one state: what was written just now is read once more.
    settled = now().timestamp() * 1e9 - max(state[1:3]) > YOUNG
    return Content(reading.original().sha256, state if settled else ())


def _names(ask: Ask, options: Options, directory: Path) -> list[str]:
    """The files the glob matches, sorted by their names below the directory; SourceSuspect if there are none."""
    try:
        found = _matches(options, directory)
    except ContractError as error:
        raise ContractError(f"{ask.dataset}: {error}") from None
    if not found:
        raise SourceSuspect(f"{ask.dataset}: no file of {directory} is called {options.path}")
    return found


def _matches(options: Options, directory: Path) -> list[str]:
    _look(directory, PurePosixPath(options.path).parts)
    try:
        matches = list(directory.glob(options.path))
    except ValueError as error:
        raise ContractError(f"path {options.path!r} is no glob: {error}") from None
    if PurePosixPath(options.path).suffix and (folders := sorted(one.name for one in matches if one.is_dir())):
        raise SourceRefused(f"{one_line(folders[0])} is called as `path` calls files, and is a directory; rename it")
    found = sorted(one.relative_to(directory).as_posix() for one in matches if not one.is_dir())
    for name in found:
        if one_line(name) != name or not name.isprintable():
            shown = os.fsencode(name).decode("ascii", "backslashreplace")
            raise SourceRefused(f"the file {one_line(shown)} has a name that is no plain text in UTF-8; rename it")
    return found


def _look(place: Path, parts: Sequence[str]) -> None:
    """SourceRefused for a directory that the glob would pass over in silence because it may not be read."""
    try:
        with os.scandir(place) as found:
            # As the glob does: it follows a link that a part names, and none below `**`.
            follow = parts[0] != "**"
            below = [one for one in found if one.is_dir(follow_symlinks=follow)] if len(parts) > 1 else []
    except PermissionError:
        raise SourceRefused(f"the directory {one_line(str(place))} may not be read; its owner must allow it") from None
    except FileNotFoundError:
        return  # gone since: the glob will not find it either
    except OSError as error:
        raise SourceRefused(f"the directory {one_line(str(place))} cannot be read: {error.strerror}") from None
    for one in below:
        if parts[0] == "**" or fnmatchcase(one.name, parts[0]):
            _look(Path(one.path), parts if parts[0] == "**" else parts[1:])


class _Reading:
    """One file read from its beginning to its end: its chunks, and afterwards what they were."""

    def __init__(self, path: Path, directory: Path, name: str) -> None:
        self.path, self.name = _target(path, directory, name), name
        self.size = 0
        self._digest = hashlib.sha256()

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes as they stood at one moment, which is known once all are read."""
        with self._told():
            self._before = self.path.stat()
            if self._before.st_size > LARGEST:
                what = f"{self.name} holds {self._before.st_size} bytes, more than {LARGEST}"
                raise SourceRefused(f"{what}; cut it into several files")
            with self.path.open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    self.size += len(chunk)
                    self._digest.update(chunk)
                    yield chunk
        self.check(self.size)

    def check(self, size: int | None = None) -> None:
        """SourceBusy if the file is another than when it was begun, or not as large as was read."""
        with self._told():
            after = self.path.stat()
        if _state(self._before) != _state(after) or size not in (None, after.st_size):
            raise SourceBusy(f"{self.name} is being written at this moment; run it again when that is done")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except PermissionError:
            raise SourceRefused(f"{self.name} may not be read; its owner must allow it") from None
        except FileNotFoundError:
            raise SourceBusy(f"{self.name} went away while it was looked at; run it again") from None
        except OSError as error:
            raise SourceRefused(f"{self.name} cannot be read: {error.strerror}") from None

    def state(self) -> tuple[int, ...]:
        """How the file stands: a write changes one of these, whatever is done to hide it."""
        with self._told():
            found = self.path.stat()
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def original(self) -> Original:
        """The file, for whoever keeps it."""
        return Original(self.path, self.size, self._digest.hexdigest())


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _target(path: Path, directory: Path, name: str) -> Path:
    """The file itself, where a link leads to it; SourceRefused for what is none of the directory."""
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
    return target


def _pages(reading: _Reading, options: Options, name: str, fields: Sequence[str]) -> Iterator[Page]:
    """The records in pages; each page's `bytes` are those read from the file since the page before."""
    records: list[bytes] = []
    size = told = 0

    def page(raw: Original | None = None) -> Page:
        asked = Request(name, {}, now(), 200, reading.size - told, sha256_of(records), len(records))
        return Page(asked, records, raw, "csv")

    try:
        for record in _records(reading.chunks(), options, name, fields):
            if size + len(record) > PAGE and records:
                yield page()
                records, size, told = [], 0, reading.size
            records.append(record)
            size += len(record)
    except SourceSuspect:
        reading.check()  # a file half written is no CSV yet
        raise
    yield page(reading.original())


def _records(chunks: Iterator[bytes], options: Options, name: str, fields: Sequence[str]) -> Iterator[bytes]:
    """The rows as JSON objects; empty lines are none, missing cells at the end are null."""
    rows = _rows(_lines(chunks, options, name), options, name)
    wanted = [one for one in fields if one not in options.may_lack]
    names, width = _header(rows, wanted, options.skip_lines, name)
    encode, many = msgspec.json.Encoder().encode, len(names)
    for at, cells in rows:
        if len(cells) > width or (len(cells) > many and any(cells[many:])):
            raise SourceSuspect(f"{name}:{at}: {len(cells)} cells, but the header names {many} columns")
        row: Sequence[str | None] = cells
        if len(cells) != many:
            row = [*cells[:many], *[None] * (many - len(cells))]
        try:
            yield encode(dict(zip(names, row, strict=True)))
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
    if names[0].startswith("\ufeff"):
        raise SourceSuspect(f"{name}:{line}: two byte order marks at the beginning; save it with one or none")
    if wrong := _wrong(names, wanted):
        if likely := {"<": "HTML or XML", "{": "JSON", "[": "JSON"}.get(names[0][:1]):
            wrong += f". Is it {likely}, and no CSV?"
        with suppress(SourceSuspect):  # what comes later is looked at for a hint only
            for at, cells in islice(rows, 50):
                if wanted and {one.strip() for one in cells}.issuperset(wanted):
                    wrong = f"this does not name the columns, line {at} does: say `skip_lines: {at - 1}`"
                    break
        raise SourceSuspect(f"{name}:{line}: {wrong}")
    return names, len(header)


def _wrong(names: Sequence[str], wanted: Sequence[str]) -> str:
    """What is wrong with a header, or nothing."""
    first: dict[str, int] = {}
    for number, one in enumerate(names, 1):
        if not one or first.setdefault(one, number) != number:
            what = f"{one_line(one)!r} stands there twice" if one else f"column {number} has no name"
            return f"the header must name each column once, but {what}"
    lacking = [one for one in wanted if one not in first]
    if not lacking:
        return ""
    near = [difflib.get_close_matches(one, names[:MANY], 1) for one in lacking]
    told = [f"{a!r} (did you mean {one_line(b[0])!r}?)" if b else repr(a) for a, b in zip(lacking, near, strict=True)]
    return (
        f"the header has no {', '.join(told)}, which the contract reads; it names {one_line(', '.join(names))}. "
        f"Mend the file or the column's `from`; an optional column's absence is permitted by the option "
        f"`may_lack: [{', '.join(lacking)}]`"
    )


def _text(chunks: Iterator[bytes], options: Options, name: str) -> Iterator[str]:
    """The chunks as text, without a byte order mark at the beginning."""
    decoder = codecs.getincrementaldecoder(options.encoding)()
    line, begun = 1, False
    while True:
        chunk = next(chunks, b"")
        if not begun and not options.skip_lines and (kind := _kind(chunk)):
            raise SourceSuspect(f"{name} is {kind}, no CSV; save it as CSV, or name others in `path`")
        held = decoder.getstate()[0].count(b"\n")  # of what is seen once more
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n") - held
            raise SourceSuspect(
                f"{name}:{line}: not {options.encoding}; say which encoding it is in the contract's options"
            ) from None
        line += chunk.count(b"\n")
        if text:
            yield text if begun else text.removeprefix("\ufeff")
            begun = True
        if not chunk:
            return


def _kind(beginning: bytes) -> str:
    """What a file is that begins like no CSV; "" where it may be one."""
    return next((kind for mark, kind in KINDS.items() if beginning.startswith(mark)), "")


def _lines(chunks: Iterator[bytes], options: Options, name: str) -> Iterator[str]:
    """The lines with their ends, which are `\\n`, `\\r` or both; SourceSuspect for one that is longer than LONGEST."""
    rest, number = "", 0
    for text in _text(chunks, options, name):
        lines = io.StringIO(rest + text, newline="").readlines()
        rest = lines.pop() if lines and not lines[-1].endswith("\n") else ""  # after "\r" its "\n" may follow
        yield from lines
        number += len(lines)
        if len(rest) > LONGEST:
            raise SourceSuspect(f"{name}:{number + 1}: a line of more than {LONGEST} characters; is it a CSV file?")
    if rest:
        yield rest


def _rows(lines: Iterator[str], options: Options, name: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty with the line it begins at, counted from 1; those of `skip_lines` are no rows.

    SourceSuspect for a row that ends otherwise than the first: a lone CR in a cell would cut it into two.
    """
    skipped = sum(1 for _ in islice(lines, options.skip_lines))
    last = first = ""

    def heard() -> Iterator[str]:
        nonlocal last
        for last in lines:  # noqa: UP028 - it is looked at below
            yield last

    reader = csv.reader(heard(), delimiter=options.delimiter, strict=True)
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
            if (end := last[-1]) in "\r\n" and end != (first := first or end):
                what = "a lone carriage return (CR)" if end == "\r" else "a line feed (LF)"
                other = "LF" if end == "\r" else "CR alone"
                asked = "is it a character of a cell? Quote the cell"
                raise SourceSuspect(f"{name}:{line}: the row ends with {what}, the header with {other}: {asked}")
            yield line, cells


source = Source(connect, fetch, version="2", check=check, there=there)
