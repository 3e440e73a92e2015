"""What a source is: one file with `connect`, `fetch` and a `source` that names them."""

import difflib
import hashlib
import importlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeVar

import msgspec

from assay.errors import ContractError, SourceBusy
from assay.ports import Ledger, Secrets
from assay.windows import Window

OWN = "assay_lake_"  # modules below it are a lake's own
CHUNK = 2**20
T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True)
class SourceSettings:
    """How to reach a source: `[source.NAME]` of assay.toml.

    Attributes:
        base_url: where its paths begin; its host is the only one that gets secrets.
        origin: vendor, sandbox or synthetic; stamped into every entry and shown on every page.
        allow_private: whether private and loopback addresses may be asked (the sandbox, a test).
        requests: requests permitted in `per` seconds.
        per: seconds.
        calls_per_day: the vendor's quota, a day of UTC, if it has one.
        bytes_per_30_days: the vendor's quota of what it sends, such as "20GB", if it has one.
        options: whatever else the source's own settings say.
        ledger: where the pace of an account is kept for all processes of the lake; None outside one.
    """

    base_url: str
    origin: str
    allow_private: bool = False
    requests: int = 300
    per: float = 60.0
    calls_per_day: int | None = None
    bytes_per_30_days: str | None = None
    options: Mapping[str, Any] | None = None
    ledger: Ledger | None = None


@dataclass(frozen=True)
class Ask:
    """What is wanted: a contract's source options, one shard (a symbol, or "all") and a window, if it has one.

    `fields` are the record's fields that the contract reads, for a source that can tell that one is not there at all.
    """

    dataset: str
    options: Mapping[str, Any]
    shard: str
    window: Window | None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What was sent and what came back, without secrets: the beginning of every explanation.

    Attributes:
        url: address without query and without credentials.
        params: the query, secrets left out.
        at: when the answer was complete, UTC.
        status: HTTP status.
        bytes: length of the body as inflated.
        sha256: of the records as kept, joined as a JSON list; see `sha256_of`.
        rows: records in the answer.
        span: first and last value of the answer's date field, if the source knows one.
        date: the vendor's own time, as its answer states it; a machine whose clock is hours off lands nothing.
    """

    url: str
    params: Mapping[str, str]
    at: datetime
    status: int
    bytes: int
    sha256: str
    rows: int
    span: tuple[str, str] | None = None
    date: datetime | None = None


def sha256_of(records: Sequence[bytes]) -> str:
    """What `Request.sha256` says of an answer: SHA-256 of its records as kept, joined as a JSON list: `[r1,r2]`."""
    return hashlib.sha256(b"[%s]" % b",".join(records)).hexdigest()


@dataclass(frozen=True)
class Original:
    """A file that a source has read to its end and that is kept beside the lines; it lies where its owner put it.

    Attributes:
        path: where it lies.
        size: bytes that were read.
        sha256: of these bytes.
    """

    path: Path
    size: int
    sha256: str

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes; at their end SourceBusy if they are not those that were read before."""
        digest = hashlib.sha256()
        try:
            with self.path.open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    yield chunk
        except OSError:
            raise SourceBusy(f"{self.path.name} went away while it was landed; run it again") from None
        if digest.hexdigest() != self.sha256:
            raise SourceBusy(f"{self.path.name} is being written at this moment; run it again when that is done")


@dataclass(frozen=True)
class Page:
    """One answer, or a piece of a large one: its request and its records, each without whitespace between its JSON tokens.

    Where the answer was no JSON (CSV, XML), `raw` is the answer as it came and `kind` its file ending; it is kept
    beside the lines. A file that is landed in several pages comes with the last of them, as its `Original`.
    `strange` are the records that were not asked for, by their number: of another `shard`, or of a day beyond the `window`.
    They are quarantined as `record:shard` and `record:window`.
    """

    request: Request
    records: Sequence[bytes]
    raw: bytes | Original | None = None
    kind: str = "csv"
    strange: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """What a file holds: the SHA-256 of its bytes, and how it stood when they were read; () where that tells nothing."""

    sha256: str
    state: tuple[int, ...] = ()


There = Callable[[Mapping[str, Any], SourceSettings, Mapping[str, Content]], Mapping[str, Content]]
"""`(options, settings, known)` to what there is now, by name; what stands as `known` says need not be read again."""


@dataclass(frozen=True)
class Source:
    """A way to get records.

    Attributes:
        connect: `(secrets, settings)` to a remote, as an async context; the only place that sees a secret.
        fetch: `(ask, remote)` to pages, in order. SourceBusy, SourceRefused or SourceSuspect where it must.
        version: changes when the same answer would be landed differently.
        check: raises ContractError for `options` it does not know, before anything is asked; see `options_of`.
        there: what there is now, where that can be looked at without asking anybody: what changed since it was landed is
            due at once. Its names are the `url` of the requests whose pages come with an `Original`.
        code: SHA-256 of the source's file, filled in by `load`. Where it imports neighbours of its lake, of the lines
            `<sha256>  <path below the lake>` of all of them, sorted.
    """

    connect: Callable[[Secrets, SourceSettings], AbstractAsyncContextManager[Any]]
    fetch: Callable[[Ask, Any], AsyncIterator[Page]]
    version: str
    check: Callable[[Mapping[str, Any]], object] | None = None
    code: str = ""
    there: There | None = None


def options_of(kind: type[T], said: Mapping[str, Any]) -> T:
    """A contract's `options` as `kind`, a msgspec struct; ContractError names the one that is wrong and all there are."""
    there = kind.__struct_encode_fields__
    for name in map(str, said):
        if name not in there:
            near = difflib.get_close_matches(name, there, 1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise ContractError(f"this source has no option {name!r}{meant}; it knows {', '.join(there)}")
    try:
        return msgspec.convert(dict(said), kind)
    except msgspec.ValidationError as error:
        raise ContractError(f"source options: {error}; it knows {', '.join(there)}") from None


@dataclass(frozen=True)
class _Loaded:
    """A source and the files it was made of, each with the SHA-256 of what was run."""

    source: Source
    files: Mapping[Path, str]

    def is_current(self) -> bool:
        """Whether all files still say the same."""
        try:
            return all(_sha256(path) == digest for path, digest in self.files.items())
        except OSError:
            return False


_loaded: dict[tuple[str, Path | None], _Loaded] = {}
_loading = threading.RLock()


def load(name: str, root: Path | None = None) -> Source:
    """The source called `name`: a file of `assay.land.sources`, or a dotted path to a file of the lake in `root`.

    `sources.my` is `<root>/sources/my.py` (or the package of that name), run as a module that belongs to this lake and
    this source alone; it reaches its neighbours by relative imports. It is run anew once one of its files has changed.
    Where the lake has no such file, an installed module is taken. ContractError says what is wrong.
    """
    with _loading:
        own = _own(name, root) if root and "." in name else None
        key = (name, root.resolve() if root and own else None)
        found = _loaded.get(key)
        if found is None or not found.is_current():
            found = _loaded[key] = _run(name, root.resolve()) if root and own else _imported(name)
        return found.source


def _own(name: str, root: Path) -> Path | None:
    """The lake's file of a dotted name, as Python would choose it."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ContractError(f"no source {name!r}: names and dots between them are all it may hold")
    there = root.joinpath(*parts)
    return next((one for one in (there / "__init__.py", there.with_suffix(".py")) if one.is_file()), None)


def _run(name: str, root: Path) -> _Loaded:
    """A lake's own source; the name of its modules holds root and source, so that no two share one."""
    top = OWN + hashlib.sha256(f"{root}\0{name}".encode()).hexdigest()[:16]
    for one in [one for one in sys.modules if one == top or one.startswith(f"{top}.")]:
        del sys.modules[one]
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)  # before the one that would take compiled files
    package = ModuleType(top)
    package.__path__ = [str(root)]
    sys.modules[top] = package
    source = _source(f"{top}.{name}", name)
    files = {
        Path(one.__file__): loader.sha256
        for module, one in list(sys.modules.items())
        if module.startswith(f"{top}.") and one.__file__ and isinstance(loader := one.__loader__, _Fresh)
    }
    lines = sorted(f"{digest}  {path.relative_to(root).as_posix()}\n" for path, digest in files.items())
    code = next(iter(files.values())) if len(files) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()
    return _Loaded(replace(source, code=code), files)


def _imported(name: str) -> _Loaded:
    """A source of ours, or one that is installed: imported once, as everything that is."""
    path = name if "." in name else f"assay.land.sources.{name}"
    source = _source(path, name)
    module = sys.modules[path]
    data = module.__loader__.get_data(module.__file__)  # type: ignore[union-attr]
    return _Loaded(replace(source, code=hashlib.sha256(data).hexdigest()), {})


def _source(path: str, name: str) -> Source:
    said = path.partition(".")[2] if path.startswith(OWN) else path
    try:
        found = importlib.import_module(path).source
    except Exception as error:  # the code of a lake's owner: what it raises is not ours to know
        kind = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
        raise ContractError(
            f"no source {name!r}: {said} must be importable and hold `source` ({kind}{error})"
        ) from error
    if not isinstance(found, Source):
        raise ContractError(f"{said}.source is a {type(found).__name__}, not an assay.land.source.Source")
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Fresh(SourceFileLoader):
    """Runs what the file says now: compiled files are told apart by seconds and size alone, and are left to nobody's lake."""

    sha256 = ""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the protocol's
        data = self.get_data(self.path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        return self.source_to_code(data, self.path)


class _Own(MetaPathFinder):
    """Finds the modules of lakes below their package, and nobody else's."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - the protocol's
    ) -> ModuleSpec | None:
        if not fullname.startswith(OWN) or path is None:
            return None
        places = (FileFinder(one, (_Fresh, [".py"])).find_spec(fullname) for one in path)
        found = [one for one in places if one]
        return next((one for one in found if one.loader), found[0] if found else None)


_FINDER = _Own()
