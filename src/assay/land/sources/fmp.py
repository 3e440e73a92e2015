"""Financial Modeling Prep: the datasets of its `/stable` interface, one request an ask."""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date, timedelta
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from assay.errors import ContractError, KeyRefused, SettingsError, SourceBusy, SourceError, SourceRefused, SourceSuspect
from assay.land import http, pace
from assay.land.http import Answer, Remote, Throttled
from assay.land.source import Ask, Page, Request, Source, SourceSettings, options_of
from assay.ports import Secrets
from assay.windows import Window

KEY = "FMP_API_KEY"
NOT_ENTITLED = (
    "restricted endpoint",
    "premium query parameter",
    "exclusive endpoint",
    "special endpoint",
    "current subscription",
)
DEPTH = 64
ESCAPES = re.compile(rb"\\(?:(u(?=[dD][89a-fA-F][0-9a-fA-F]{2}))|.)", re.DOTALL)
MASK = b"\xff\xfe\xfd"  # in no UTF-8, cannot overlap itself; the parser does not look into bytes above 127
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
DAY, SHARD = attrgetter("day"), attrgetter("shard")
BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a contract says about a dataset of this source.

    Attributes:
        path: below the base URL, such as `historical-price-eod/non-split-adjusted`.
        shard_param: the parameter that takes the shard, such as `symbol`; none for lists.
        shard_field: the record's field that repeats the shard; `shard_param` unless told.
        date_field: the record's field that holds its day.
        from_to: whether `from` and `to` are sent; needs `date_field`, by which the answer is checked.
        params: further parameters, the same for every ask.
        empty: whether an answer without records is `suspect` or `meaningful`.
        slack_days: how far inside the window the first and the last record may lie.
    """

    path: str
    shard_param: str | None = None
    shard_field: str | None = None
    date_field: str | None = None
    from_to: bool = False
    params: dict[str, str | int] = {}
    empty: Literal["suspect", "meaningful"] = "suspect"
    slack_days: int = 10


def check(options: Mapping[str, Any]) -> Options:
    """A contract's options as `Options`; ContractError for what means nothing here."""
    said = options_of(Options, options)
    http.check_path(said.path)
    if said.from_to and not said.date_field:
        raise ContractError("from_to needs a date_field to check the answer by")
    return said


@asynccontextmanager
async def connect(secrets: Secrets, settings: SourceSettings) -> AsyncIterator[Remote]:
    """A remote that sends the secret FMP_API_KEY in the header `apikey`; one pace a key and address."""
    key = secrets.get(KEY).strip()
    if not (key.isascii() and key.isprintable() and key):
        raise SettingsError(f"the secret {KEY} is empty or holds characters no key has")
    account = hashlib.sha256(f"{settings.base_url} {key}".encode()).hexdigest()
    rate = pace.shared(account, settings.requests, settings.per, settings.ledger)
    async with http.client(settings, {"apikey": key}, rate) as remote:
        yield remote


async def fetch(ask: Ask, remote: Remote) -> AsyncIterator[Page]:
    """The one page that answers `ask`, checked to be about it: its shard, its window, not cut short."""
    options = check(ask.options)
    if options.from_to and not ask.window:
        raise ContractError(f"{ask.dataset}: from_to needs a window")
    read = partial(judge, date_field=options.date_field, shard_field=_shard_field(options))
    answer, found = await remote.get(options.path, _params(ask, options), read)
    strange = _strange(ask, options, found)
    span = _checked(ask, options, found, strange)
    digest, rows = hashlib.sha256(found.joined).hexdigest(), len(found.records)
    yield Page(
        Request(answer.url, answer.params, answer.at, answer.status, len(answer.body), digest, rows, span, answer.date),
        found.records,
        strange=strange,
    )


class Found(NamedTuple):
    """The records of an answer, as a list and joined as a JSON list; `day` and `shard` of those that have them."""

    records: list[bytes]
    joined: bytes
    rows: list[Any]


def judge(answer: Answer, date_field: str | None = None, shard_field: str | None = None) -> Found:
    """The records of an answer, token for token, no whitespace between; raises if it is no list of them.

    Records are not judged: one that is no object or holds bytes that are no text is a record all the same.
    """
    if answer.status != 200:
        raise _refusal(answer, answer.excerpt)
    head = answer.body.lstrip()[:1]
    if head == b"[":
        found = _flat(answer.body, date_field, shard_field)
        if found is None:
            records = _records(answer)
            joined = b"[%s]" % b",".join(records)
            found = Found(records, joined, _peek(joined, records, date_field, shard_field))
        return found
    if head == b"{":
        raise _refusal(answer, _message(answer))
    raise _refusal(answer, answer.excerpt)


def _params(ask: Ask, options: Options) -> dict[str, str]:
    params = {name: str(value) for name, value in options.params.items()}
    if options.shard_param:
        params[options.shard_param] = ask.shard
    if options.from_to and ask.window:
        params["from"] = ask.window.start.isoformat()
        params["to"] = (ask.window.end - timedelta(days=1)).isoformat()  # theirs is inclusive
    return params


def _flat(body: bytes, date_field: str | None, shard_field: str | None) -> Found | None:
    """What most answers are, in few passes: objects without objects, lists and brackets inside; None for any other.

    Where there are as many `{` as records and each record is an object, no text holds one: so `},{` parts records and
    nothing else, and with no further `[` nothing is nested.
    """
    try:
        bare = msgspec.json.format(body, indent=-1)
        rows = _decoders(date_field, shard_field)[0].decode(bare)
    except UNREADABLE:
        return None
    if not rows or bare.count(b"{") != len(rows) or bare.find(b"[", 1) >= 0 or b"\n" in bare:
        return None
    return Found(bare[1:-1].replace(b"},{", b"}\n{").split(b"\n"), bare, rows)


def _records(answer: Answer) -> list[bytes]:
    try:
        try:
            records = _split(answer.body)
        except msgspec.DecodeError:
            if MASK in answer.body:
                raise
            records = [one.replace(MASK, rb"\u") for one in _split(_masked(answer.body))]
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            raise SourceBusy(f"{answer.url} answers with JSON that ends early") from None
        raise SourceSuspect(f"{answer.url} answers with what is no JSON: {error}") from None
    except RecursionError:
        raise SourceSuspect(f"{answer.url} answers with JSON nested deeper than {DEPTH}") from None
    brackets = answer.body.count(b"{") + answer.body.count(b"[")
    if brackets > len(records) + DEPTH and max(map(_depth, records)) > DEPTH:  # flat records have one each
        raise SourceSuspect(f"{answer.url} answers with JSON nested deeper than {DEPTH}")
    return records


def _split(body: bytes) -> list[bytes]:
    bare = msgspec.json.format(body, indent=-1)
    return list(map(bytes, msgspec.json.decode(bare, type=list[msgspec.Raw])))


def _masked(text: bytes) -> bytes:
    """Without escapes of half a character (a title cut inside an emoji): the parser takes them for no JSON."""
    return ESCAPES.sub(lambda found: MASK if found[1] else found[0], text)


def _depth(record: bytes) -> int:
    if record.count(b"{") + record.count(b"[") <= DEPTH:
        return 0
    depth = deepest = 0
    for token in BRACKETS.findall(record):
        depth += (token in (b"{", b"[")) - (token in (b"}", b"]"))
        deepest = max(deepest, depth)
    return deepest


def _message(answer: Answer) -> str:
    """The text under "Error Message"; "" if the object has none."""
    try:
        found = msgspec.json.decode(answer.body)
    except UNREADABLE:
        return ""
    return http.one_line(str(found.get("Error Message", "")))


def _refusal(answer: Answer, text: str) -> SourceError:
    """What status and text mean together: neither alone is enough with this vendor."""
    said, status, low = f"{answer.url} answers {answer.status}: {text}", answer.status, text.lower()
    if status == 401 or "invalid api key" in low:
        return KeyRefused(f"FMP does not accept the key; put a valid one into {KEY}. {said}")
    if "suspended" in low:
        return KeyRefused(f"the account behind {KEY} is suspended. {said}")
    if "bandwidth limit" in low:
        return KeyRefused(f"the plan's volume of the last 30 days is used up. {said}")
    if status == 429 or "limit reach" in low:
        return Throttled(f"FMP's limit is reached. {said}", retry_after=answer.retry_after)
    if status == 402 or any(words in low for words in NOT_ENTITLED):
        return SourceRefused(f"the key's plan is not entitled to this. {said}")
    if status == 408:
        return SourceBusy(said)
    if status != 200 or (text and answer.body.lstrip()[:1] == b"{"):
        return SourceRefused(said)
    return SourceSuspect(f"{answer.url} answers 200 with what is no list of records: {answer.excerpt[:100]!r}")


def _shard_field(options: Options) -> str | None:
    return (options.shard_field or options.shard_param) if options.shard_param else None


def _strange(ask: Ask, options: Options, found: Found) -> dict[int, str]:
    """The records that were not asked for, by their number: of another `shard`, or of a day beyond the `window`.

    Where they are more than a tenth, none: such an answer as a whole is not what was asked.
    """
    window = ask.window if options.from_to else None
    out = {}
    if _shard_field(options) and set(map(SHARD, found.rows)) - {ask.shard, UNSET}:
        out = {n: "shard" for n, row in enumerate(found.rows) if row.shard not in (ask.shard, UNSET)}
    span = _span([day for day in map(DAY, found.rows) if day is not UNSET]) if window else None
    if window and span and not all(window.start <= date.fromisoformat(day[:10]) < window.end for day in span):
        days = ((n, _day(row.day)) for n, row in enumerate(found.rows) if row.day is not UNSET)
        out |= {n: "window" for n, day in days if day and not window.start <= day < window.end and n not in out}
    return out if 10 * len(out) <= len(found.rows) else {}


def _checked(ask: Ask, options: Options, found: Found, strange: Mapping[int, str]) -> tuple[str, str] | None:
    """First and last day of the records that are not strange; SourceSuspect where they cannot be all that was asked for."""
    if not found.records:
        if options.empty == "suspect" and not _short(ask.window, options.slack_days):
            raise SourceSuspect(f"{_name(ask)}: FMP gave no records, as it does for what it does not know")
        return None
    rows = [row for n, row in enumerate(found.rows) if n not in strange] if strange else found.rows
    strangers = set(map(SHARD, rows)) - {ask.shard, UNSET}
    if _shard_field(options) and strangers:
        raise SourceSuspect(f"{_name(ask)}: FMP gave records of {str(min(strangers))[:40]!r} instead")
    if not options.date_field:
        return None
    days = list(map(DAY, rows))
    span = _span(days if UNSET not in days else [day for day in days if day is not UNSET])
    if options.from_to and ask.window:
        _check_span(ask, ask.window, span, timedelta(days=options.slack_days))
    return span


def _short(window: Window | None, days: int) -> bool:
    """Whether the window may hold no session at all: a weekend, a holiday."""
    return window is not None and (window.end - window.start).days <= days


def _check_span(ask: Ask, asked: Window, span: tuple[str, str] | None, slack: timedelta) -> None:
    if span is None:
        raise SourceSuspect(f"{_name(ask)}: no record of FMP's answer has a day")
    first, last = _day(span[0]), _day(span[1])
    came = f"{_name(ask)}: asked for {asked}, FMP's records reach from {span[0][:10]} to {span[1][:10]}"
    if not first or not last or first < asked.start or last >= asked.end:
        raise SourceSuspect(f"{came}: beyond what was asked, so it ignored the parameters")
    if first > asked.start + slack or last < asked.end - slack:
        raise SourceSuspect(f"{came}: a part is missing, so the answer may have been cut short")


def _name(ask: Ask) -> str:
    return f"{ask.dataset} {ask.shard!r}"


def _span(days: list[str]) -> tuple[str, str] | None:
    """The earliest and the latest; what is no day is left to the refinement."""
    if not days:
        return None
    first, last = min(days), max(days)
    if _day(first) and _day(last):
        return first, last
    return _span([day for day in days if _day(day)])


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10]) if text[4:5] == "-" else None
    except ValueError:
        return None


def _peek(joined: bytes, records: list[bytes], date_field: str | None, shard_field: str | None) -> list[Any]:
    """Each record's `day` and `shard`, UNSET if absent or no text."""
    whole, single = _decoders(date_field, shard_field)
    try:
        rows: list[Any] = whole.decode(joined)
    except UNREADABLE:
        rows = []
        for record in records:
            try:
                rows.append(single.decode(_masked(record)))
            except UNREADABLE:
                rows.append(single.decode(b"{}"))
    return rows


@lru_cache(maxsize=64)
def _decoders(date_field: str | None, shard_field: str | None) -> tuple[Any, Any]:
    """Decoders that read two fields and skip the rest: of many records, and of one."""
    names = {"day": date_field, "shard": shard_field}
    row: Any = msgspec.defstruct(
        "Row",
        [(name, str, UNSET) for name in names],
        rename={name: field or f" no {name}" for name, field in names.items()},
        gc=False,
    )
    return msgspec.json.Decoder(list[row]), msgspec.json.Decoder(row)


source = Source(connect, fetch, version="2", check=check)
