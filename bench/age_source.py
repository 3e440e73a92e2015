"""A source without a vendor for the age bench: what it gives is a function of symbol and day."""

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, timedelta
from typing import Any

import msgspec

from assay import clock
from assay.land.source import Ask, Page, Request, Source, SourceSettings, options_of, sha256_of
from assay.ports import Secrets
from assay.windows import Window

FEW = 5


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose records a dataset has: of one symbol, of all symbols a day, of few symbols a day, or the list."""

    of: str


class Remote:
    """How many symbols there are, and the day of which one batch is bad."""

    def __init__(self, symbols: int, bad: int) -> None:
        self.symbols, self.bad = symbols, bad
        self.together = 8


def record(symbol: int, day: date | None, *, bad: bool = False) -> bytes:
    """One record; a bad one closes its batch's gate."""
    draw = zlib.crc32(b"%d %d" % (symbol, day.toordinal() if day else 0))
    said = b'"date":"%s",' % str(day).encode() if day else b""
    return b'{"symbol":"S%04d",%s"close":%d.%02d,"volume":%d}' % (
        symbol, said, -1 if bad else 10 + draw % 500, draw % 100, 1000 + draw % 999_000,
    )  # fmt: skip


def records(of: str, shard: str, window: Window | None, symbols: int, bad: int, today: date) -> list[bytes]:
    """What a day gives; in the list another symbol is missing every week."""
    if of == "list":
        return [record(n, None) for n in range(symbols) if n != today.toordinal() // 7 % symbols]
    assert window
    days = [window.start + timedelta(days=n) for n in range((window.end - window.start).days)]
    chosen = [int(shard[1:])] if of == "shard" else range(FEW if of == "few" else symbols)
    return [record(n, day, bad=of == "shard" and n == 7 and day.toordinal() == bad) for day in days for n in chosen]


def check(options: Mapping[str, Any]) -> Options:
    """The contract's options."""
    return options_of(Options, options)


@asynccontextmanager
async def connect(secrets: Secrets, settings: SourceSettings) -> AsyncIterator[Remote]:
    """Nobody is asked, and no secret is needed."""
    del secrets
    said = settings.options or {}
    yield Remote(said["symbols"], said["bad"])


async def fetch(ask: Ask, remote: Remote) -> AsyncIterator[Page]:
    """One answer."""
    now = clock.now()
    found = records(check(ask.options).of, ask.shard, ask.window, remote.symbols, remote.bad, now.date())
    yield Page(
        Request("http://127.0.0.1/", {}, now.astimezone(UTC), 200, sum(map(len, found)), sha256_of(found), len(found)),
        found,
    )


source = Source(connect, fetch, version="1", check=check)
