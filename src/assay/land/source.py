"""What a source is: one file with `connect`, `fetch` and a `source` that names them."""

import difflib
import importlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from assay.errors import ContractError
from assay.ports import Secrets
from assay.windows import Window

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True)
class SourceSettings:
    """How to reach a source: `[source.NAME]` of assay.toml.

    Attributes:
        base_url: where its paths begin; its host is the only one that gets secrets.
        origin: vendor, sandbox or synthetic; stamped into every manifest and shown on every page.
        allow_private: whether private and loopback addresses may be asked (the sandbox, a test).
        requests: requests permitted in `per` seconds.
        per: seconds.
        options: whatever else the source's own settings say.
    """

    base_url: str
    origin: str
    allow_private: bool = False
    requests: int = 300
    per: float = 60.0
    options: Mapping[str, Any] | None = None


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
        sha256: of the body as inflated.
        rows: records in the answer.
        span: first and last value of the answer's date field, if the source knows one.
    """

    url: str
    params: Mapping[str, str]
    at: datetime
    status: int
    bytes: int
    sha256: str
    rows: int
    span: tuple[str, str] | None = None


@dataclass(frozen=True)
class Page:
    """One answer: its request and its records, each the vendor's own JSON tokens without whitespace between.

    Where the answer was no JSON (CSV, XML), `raw` is the answer as it came and `kind` its file ending; it is kept
    beside the lines.
    """

    request: Request
    records: Sequence[bytes]
    raw: bytes | None = None
    kind: str = "csv"


@dataclass(frozen=True)
class Source:
    """A way to get records.

    Attributes:
        connect: `(secrets, settings)` to a remote, as an async context; the only place that sees a secret.
        fetch: `(ask, remote)` to pages, in order. SourceBusy, SourceRefused or SourceSuspect where it must.
        version: changes when the same answer would be landed differently.
        check: raises ContractError for `options` it does not know, before anything is asked; see `options_of`.
    """

    connect: Callable[[Secrets, SourceSettings], AbstractAsyncContextManager[Any]]
    fetch: Callable[[Ask, Any], AsyncIterator[Page]]
    version: str
    check: Callable[[Mapping[str, Any]], object] | None = None


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


def load(name: str) -> Source:
    """The source called `name`: a file of `assay.land.sources`, or a dotted path of the user's own."""
    path = name if "." in name else f"assay.land.sources.{name}"
    try:
        found = importlib.import_module(path).source
    except (ImportError, AttributeError) as error:
        raise ContractError(f"no source {name!r}: {path} must be importable and hold `source` ({error})") from error
    if not isinstance(found, Source):
        raise ContractError(f"{path}.source is a {type(found).__name__}, not an assay.land.source.Source")
    return found
