"""An HTTP API that answers with pages of JSON: a source is this one file, change what differs at yours."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from assay.errors import SourceSuspect
from assay.land import http, pace
from assay.land.http import Answer, Remote
from assay.land.source import Ask, Page, Request, Source, SourceSettings, options_of, sha256_of
from assay.ports import Secrets

KEY = "MY_API_KEY"
MOST = 1000  # pages of one ask, for an API that never ends


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a contract's `options` may say: the path below base_url, and parameters that are always sent."""

    path: str
    params: dict[str, str | int] = {}


def check(options: Mapping[str, Any]) -> Options:
    """The contract's options; what is wrong with them is found by `assay check`, before anything is asked."""
    said = options_of(Options, options)
    http.check_path(said.path)
    return said


@asynccontextmanager
async def connect(secrets: Secrets, settings: SourceSettings) -> AsyncIterator[Remote]:
    """A remote that sends the key; the only place that sees it. It keeps to the rate of assay.toml."""
    key = secrets.get(KEY)
    account = hashlib.sha256(f"{settings.base_url} {key}".encode()).hexdigest()
    rate = pace.shared(account, settings.requests, settings.per, settings.ledger)
    # A key that goes with the parameters instead: http.client(settings, {}, rate, secrets=[key]), so that no record holds it.
    async with http.client(settings, {"Authorization": f"Bearer {key}"}, rate) as remote:
        yield remote


async def fetch(ask: Ask, remote: Remote) -> AsyncIterator[Page]:
    """Page after page until one is empty; none at all is suspect, for silence is not the same as no data."""
    options = check(ask.options)
    params = {name: str(value) for name, value in options.params.items()}
    if ask.shard != "all":
        params["symbol"] = ask.shard  # the contract names a universe
    if ask.window:
        params |= {"from": str(ask.window.start), "until": str(ask.window.end)}  # the end is not part of it
    before: list[bytes] = []
    for number in range(1, MOST + 1):
        answer, records = await remote.get(options.path, params | {"page": str(number)}, judge)
        if not records and number == 1:
            raise SourceSuspect(f"{ask.dataset} {ask.shard!r}: {answer.url} gave no records")
        if records and records == before:  # it would answer the same for ever; has it pages at all?
            raise SourceSuspect(
                f"{ask.dataset}: page {number} is page {number - 1} again: {options.path} ignores `page`"
            )
        before = records
        digest, size = sha256_of(records), len(answer.body)
        yield Page(Request(answer.url, answer.params, answer.at, answer.status, size, digest, len(records)), records)
        if not records:
            return
    raise SourceSuspect(f"{ask.dataset}: more than {MOST} pages; if {options.path} has so many, raise MOST")


def judge(answer: Answer) -> list[bytes]:
    """The records of one answer, token for token without the whitespace between; raises where it is not data."""
    body = http.plain(answer)  # 429 and 5xx are asked again, other errors are the key owner's
    try:
        return [bytes(one) for one in msgspec.json.decode(msgspec.json.format(body, indent=-1), type=list[msgspec.Raw])]
    except msgspec.DecodeError as error:
        raise SourceSuspect(f"{answer.url} answers with what is no list of records: {error}") from None


source = Source(connect, fetch, version="1", check=check)
