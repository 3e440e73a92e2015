"""Asks a vendor over HTTP: at its pace, again where that may help, and never more than it may cost us."""  # noqa: A005 - it is what the module is about; nothing here needs the other

import asyncio
import ipaddress
import logging
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeVar

import aiohttp
from isal import isal_zlib
from yarl import URL

from assay.clock import now
from assay.errors import ContractError, SettingsError, SourceBusy, SourceError, SourceRefused, SourceSuspect
from assay.land.pace import Pace
from assay.land.source import SourceSettings

REDIRECTS = 3
INFLATED = 64 * 2**20  # bytes of one answer
RATIO, SMALL = 200, 2**20  # an answer above SMALL may be RATIO times what travelled; JSON rarely exceeds 30
LONGEST = 60.0  # seconds before a further attempt where the vendor wishes for none
PATIENCE = 120.0  # longest wish of a vendor we wait for within one run
PATH = re.compile(r"[\w~-][\w.~-]*(/[\w~-][\w.~-]*)*", re.ASCII)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
WAITS = ((86400, "days"), (3600, "h"), (60, "min"))
log = logging.getLogger(__name__)

T = TypeVar("T")


class Throttled(SourceBusy):
    """The vendor says: too fast. Raised by a judge, it slows the whole source down."""


class _TooLarge(SourceSuspect):
    """Not asked for again: it would be as large the next time."""


class _PrivateAddressError(OSError):
    """What the socket factory says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer, inflated; `url` and `params` hold no secrets, `at` is when it was complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: datetime
    url: str
    params: Mapping[str, str]

    @property
    def excerpt(self) -> str:
        """The first words of the body, fit for an error's text."""
        return one_line(self.body[:300].decode("utf-8", "replace"))

    @property
    def date(self) -> datetime | None:
        """The vendor's own time, if it states one that can be read.

        Where a cache on the way says how old its answer is (`Age`, RFC 9111), the time may be the vendor's of then or a
        proxy's of now: the one of both that is nearer to `at`.
        """
        age = self.headers.get("Age", "").strip()
        try:
            made = parsedate_to_datetime(self.headers.get("Date", "")).astimezone(UTC)
            older = made + timedelta(seconds=int(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0)
        except (ValueError, OverflowError):
            return None
        return min(made, older, key=lambda one: abs(self.at - one))

    @property
    def retry_after(self) -> float | None:
        """The wait the vendor wishes for, in seconds."""
        wish = self.headers.get("Retry-After", "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", wish):
            return float(wish)
        try:
            return max(0.0, (parsedate_to_datetime(wish).astimezone(UTC) - self.at).total_seconds())
        except ValueError:
            return None


def one_line(text: str) -> str:
    """At most 300 characters of a stranger's text, without anything that could forge a line of a log."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:300]).split())


def check_path(path: str) -> None:
    """ContractError unless it can be asked for below a base URL and leads nowhere else."""
    if not PATH.fullmatch(path):
        raise ContractError(f"{path!r} is not a path below base_url: letters, digits and - _ . ~ between slashes")


def spoken(seconds: float) -> str:
    """A wait in the largest unit it has two of: `24 h`."""
    size, unit = next(((size, unit) for size, unit in WAITS if seconds >= 2 * size), (1, "s"))
    return f"{round(seconds / size, 1):g} {unit}"


def plain(answer: Answer) -> bytes:
    """The judge of a vendor without peculiarities: the body of a 200, else the error its status means."""
    if answer.status == 200:
        return answer.body
    if answer.status == 429:
        raise Throttled(f"{answer.url} answers 429: {answer.excerpt}", retry_after=answer.retry_after)
    raise SourceRefused(f"{answer.url} answers {answer.status}: {answer.excerpt}")


class Remote:
    """A vendor that can be asked; made by `client`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: URL,
        pace: Pace,
        secrets: tuple[str, ...],
        options: Mapping[str, Any],
    ) -> None:
        self._session, self._base, self._pace, self._secrets = session, base, pace, secrets
        self._limit = int(options.get("max_bytes", INFLATED))
        self._attempts = max(1, int(options.get("attempts", 5)))
        self._backoff = float(options.get("backoff", 1.0))

    @property
    def together(self) -> int:
        """How many should ask at once to use what its pace permits."""
        return self._pace.together

    async def get(self, path: str, params: Mapping[str, str], judge: Callable[[Answer], T]) -> tuple[Answer, T]:
        """Ask for `path` below the base URL: the answer, and what `judge` makes of it.

        The judge sees every answer below 500 and raises where it is not data. After SourceBusy and
        SourceSuspect the vendor is asked again, at its pace; SourceRefused, or the last of them, is the caller's.
        """
        url = _below(self._base, path)
        for number in range(1, self._attempts + 1):
            try:
                answer = await self._ask(url, params)
                if answer.status >= 500:
                    raise SourceBusy(f"{answer.url} answers {answer.status}", retry_after=answer.retry_after)
                return answer, judge(answer)
            except SourceError as error:
                if isinstance(error, Throttled):
                    self._pace.on_429(error.retry_after and min(error.retry_after, PATIENCE))
                wish = error.retry_after if isinstance(error, SourceBusy) else None
                said = f"{error} (asks us to wait {spoken(wish)})" if wish else str(error)
                error.args = (self._without_secrets(said),)
                wait = self._wait(error, number)
                if wait is None or number == self._attempts:
                    raise
                name = f"{url.host_port_subcomponent}{url.path}"
                why = str(error) if name in str(error) else f"{name}: {error}"
                told = f"asked again in {spoken(wait)}, attempt {number + 1} of {self._attempts}"
                log.warning("%s; %s", why, told)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")  # pragma: no cover - the last attempt returns or raises

    def _wait(self, error: Exception, number: int) -> float | None:
        """Seconds until the vendor is asked again after its failure `number`; None where it is not."""
        if isinstance(error, SourceBusy) and error.retry_after is not None:
            return error.retry_after if error.retry_after <= PATIENCE else None
        if isinstance(error, _TooLarge) or not isinstance(error, SourceBusy | SourceSuspect):
            return None
        return min(LONGEST, self._backoff * 2.0 ** min(number - 1, 30) + random.uniform(0, self._backoff))  # noqa: S311 - spreads load

    async def _ask(self, bare: URL, params: Mapping[str, str]) -> Answer:
        url = bare.with_query(dict(params))
        for _ in range(1 + REDIRECTS):
            await self._pace.acquire()
            left = time.monotonic()
            try:
                async with self._session.get(url, allow_redirects=False) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        url = self._follow(url, response.headers.get("Location", ""))
                        continue
                    body = await _inflated(response, self._limit)
                    self._pace.took(time.monotonic() - left)
                    told = {name: value for name, value in params.items() if value not in self._secrets}
                    return Answer(response.status, response.headers, body, now(), str(bare), told)
            except (aiohttp.ClientError, TimeoutError, OSError, isal_zlib.error) as error:  # type: ignore[misc]  # its stub says instance
                # The library's own texts may quote addresses with their query and headers.
                raise _named(error, str(self._base.host)) from None
        raise SourceRefused(f"{self._base.host} redirects more than {REDIRECTS} times")

    def _follow(self, url: URL, location: str) -> URL:
        """Where a redirect leads; it may not lead our key to anybody else."""
        try:
            target = url.join(URL(location))
            same = target.origin() == self._base.origin() and target.user is None
        except ValueError:
            raise SourceRefused(f"{self._base.host} redirects to what is no web address") from None
        if not location or not same:
            raise SourceRefused(f"{self._base.host} redirects to {target.host}: only {self._base.origin()} is asked")
        return target

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


@lru_cache(maxsize=64)
def _below(base: URL, path: str) -> URL:
    """A path below the base URL; see `check_path`."""
    check_path(path)
    return base.joinpath(path)


@asynccontextmanager
async def client(
    settings: SourceSettings, headers: Mapping[str, str], pace: Pace, *, secrets: Collection[str] = ()
) -> AsyncIterator[Remote]:
    """A remote for `settings.base_url`; the values of `headers` are secrets and go to that origin alone.

    `secrets` are others, sent as parameters: no text and no record of what was asked holds a secret, nor a word of
    one that is longer than seven characters (the key of `Bearer KEY`).

    `settings.options` may say `attempts` (5), `backoff` (1 s before the second attempt, doubling), `timeout`
    (60 s an attempt), `connect_timeout` (5 s) and `max_bytes` (64 MiB an answer, inflated).
    """
    options = settings.options or {}
    timeout = aiohttp.ClientTimeout(
        total=float(options.get("timeout", 60)), sock_connect=float(options.get("connect_timeout", 5))
    )
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=None if settings.allow_private else _public_socket),
        headers={"User-Agent": "assay", "Accept-Encoding": "gzip", **headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=timeout,
    ) as session:
        values = [v for v in (*headers.values(), *secrets) if v]
        words = {w for v in values for w in v.split() if len(w) > 7}
        hidden = tuple(sorted({*values, *words}, key=len, reverse=True))
        yield Remote(session, _base(settings), pace, hidden, options)


def _base(settings: SourceSettings) -> URL:
    try:
        base = URL(settings.base_url)
    except ValueError as error:
        raise SettingsError(f"base_url is no address: {error}") from None
    if base.user is not None or base.query_string or base.fragment:
        raise SettingsError("base_url holds credentials, a query or a fragment: an address and a path is all it may be")
    if not base.host or base.scheme not in (("https", "http") if settings.allow_private else ("https",)):
        raise SettingsError(f"base_url {settings.base_url!r} must begin with https:// (http:// needs allow_private)")
    return base


def _public_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for an address as resolved, just before it is used: no name can lead elsewhere later."""
    family, kind, proto, _, address = info
    if not _is_public(str(address[0])):
        raise _PrivateAddressError("not a public address")  # the same for all: only then is it what comes out
    return socket.socket(family=family, type=kind, proto=proto)


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            address = inner
    return address.is_global and not address.is_multicast


async def _inflated(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, inflated as it comes in; _TooLarge as soon as it has grown beyond `limit` or RATIO."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("gzip", "identity"):
        raise SourceSuspect(f"{response.url.host} answers in {encoding[:20]!r}, which was not asked for")
    host = response.url.host
    inflate = isal_zlib.decompressobj(31) if encoding == "gzip" else None
    pieces, size, travelled = [], 0, 0
    async for rest in response.content.iter_any():
        travelled += len(rest)
        allowed = min(limit, max(SMALL, RATIO * travelled))
        while rest:
            if inflate is None:
                piece, rest = rest, b""  # noqa: PLW2901 - what is left of the chunk
            else:
                if inflate.eof:  # members may follow each other
                    inflate = isal_zlib.decompressobj(31)
                piece = inflate.decompress(rest, allowed - size + 1)
                rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail  # noqa: PLW2901
            size += len(piece)
            if size > allowed:
                raise _TooLarge(f"{host} answers with more than {allowed} bytes from {travelled} received")
            pieces.append(piece)
    if inflate is not None and travelled and not inflate.eof:
        raise SourceBusy(f"{host} ended its answer early")
    return b"".join(pieces)


def _named(error: BaseException, host: str) -> SourceError:
    """The library's error as one that says who must act, with a text that cannot quote a secret."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, _PrivateAddressError):
        return SourceRefused(f"{host} is at a private address; allow_private would permit it")
    if isinstance(error, aiohttp.InvalidURL):
        return SourceRefused(f"{host} is no address that can be asked")
    if isinstance(error, aiohttp.ClientSSLError):
        return SourceSuspect(f"{host} does not prove its identity: {type(error).__name__}")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return SourceBusy(f"{host} did not answer completely: {reason}")
