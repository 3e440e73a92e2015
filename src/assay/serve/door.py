"""The door before every route: whose keys it opens to, to which names it answers, and what each answer carries."""

import asyncio
import base64
import binascii
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from assay.lake import keys
from assay.lake.keys import Key
from assay.ports import Files
from assay.serve import console
from assay.serve.granted import NOTHING, Grant
from assay.serve.query import Problem

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LONGEST, AGE, HEALTH = 2**15, 2.0, "/v1/health"
_log = logging.getLogger(__name__)
_ASKED = {"WWW-Authenticate": 'Basic realm="assay"'}


def problem_json(error: Problem) -> Response:
    """RFC 9457, with `who`: caller, operator or nobody must act."""
    names = {400: "The query cannot be answered", 401: "A key is needed", 403: "Not permitted", 404: "There is no such thing",
             405: "Only reading here", 410: "The release moved on", 414: "The address is too long", 421: "Not this server", 503: "Not now"}  # fmt: skip
    body = {
        "type": "about:blank",
        "title": names.get(error.status, "The server failed"),
        "status": error.status,
        "detail": error.detail,
        "who": error.who,
    }
    headers = {**error.headers, "content-type": "application/problem+json", "cache-control": "no-store"}
    return Response(msgspec.json.encode(body), error.status, headers)


class Keys:
    """Whose key a request shows. What is stored is looked at again after `age` seconds: so soon a key comes, or goes."""

    def __init__(self, files: Files, age: float = AGE) -> None:
        self._files, self._age = files, age
        self._pool, self._lock = ThreadPoolExecutor(1, "keys"), asyncio.Lock()
        self._looked = -age
        self._known: Mapping[str, Key | None] | None = {}

    async def grant(self, shown: Sequence[bytes]) -> Grant:
        """What the key of these Authorization headers reads; Problem (401) if it is none that is good."""
        key = await self.holder(shown)
        return None if key.datasets is None else frozenset(key.datasets)

    async def holder(self, shown: Sequence[bytes]) -> Key:
        """The key of these Authorization headers; Problem (401) if it is none that is good, (503) if none can be read.

        However many wrong keys come, they cost a look in a table each, and nothing is read for them.
        """
        if time.monotonic() - self._looked >= self._age:
            await self._look()
        if self._known is None:
            raise Problem(503, "the keys cannot be read, so nobody is let in", "operator")
        if not shown:
            raise Problem(401, "this server demands an API key: `Authorization: Bearer KEY`, or the key as the password of any user; `assay keys create` makes one", **_ASKED)  # fmt: skip
        key = keys.holder(_secret(shown[0]), self._known) if len(shown) == 1 else None
        if key is None:
            raise Problem(401, "this is no key, or one that has expired or was revoked", **_ASKED)
        return key

    async def _look(self) -> None:
        async with self._lock:
            if time.monotonic() - self._looked < self._age:
                return
            before = self._known or {}
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._pool, keys.active, self._files, before)
            except Exception:  # noqa: BLE001 - whatever it was: who cannot look lets nobody in
                _log.exception("the keys cannot be read; nobody is let in until they can")
                self._known = None
            else:
                for its in [one for one, key in found.items() if key is None and one not in before]:
                    _log.error("%s is not what was written, and the key is refused", keys.name_of(its))
                self._known = found
            self._looked = time.monotonic()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True)


def _secret(header: bytes) -> bytes:
    """The key in an Authorization header; empty where there is none."""
    scheme, _, rest = header.partition(b" ")
    rest = rest.strip(b" ")
    if scheme.lower() == b"bearer":
        return rest
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


class Door:
    """Around every route: only GET and HEAD, our names, no foreign origin, a key where one is demanded, the headers browsers need, no bare failure."""

    def __init__(
        self, app: ASGIApp, hosts: frozenset[str] | None, keys: Keys | None,
        failed: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:  # fmt: skip
        self._inner, self._hosts, self._keys, self._failed = app, hosts, keys, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        begun = False

        async def sent(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _HEADERS if one[0] not in own)]
            await send(message)

        try:
            shown = self._from_here(scope)
            scope["assay.grant"] = await self._grant(scope, shown)
            _plain(scope)
        except Problem as refusal:
            page = refusal.status == 401 and not is_data(scope["path"])
            await (console.locked(refusal) if page else problem_json(refusal))(scope, receive, sent)
            return
        try:
            await self._inner(scope, receive, sent)
        except Exception as error:
            if begun:
                raise
            await (await self._failed(Request(scope), error))(scope, receive, sent)

    def _from_here(self, scope: Scope) -> list[bytes]:
        """The Authorization headers of a request that comes by one of our names and from no other's page; else Problem."""
        hosts, origins, shown = [], [], []
        for name, text in scope["headers"]:
            if name == b"host":
                hosts.append(text)
            elif name == b"origin":
                origins.append(text)
            elif name == b"authorization":
                shown.append(text)
        if len(hosts) > 1:
            raise Problem(400, "the request names two hosts; send one")
        host = hosts[0] if hosts else b""
        if self._hosts is not None and _hostname(host) not in self._hosts:
            raise Problem(
                421, "this server does not answer to that Host name; ask it by the address it was started with"
            )
        # A proxy that speaks TLS stands before a server that answers to any name.
        schemes = (b"http",) if self._hosts is not None else (b"https", b"http")
        own = {scheme + b"://" + host.lower() for scheme in schemes}
        if any(one.lower() not in own for one in origins):
            raise Problem(403, "requests from other web origins are refused")
        return shown

    async def _grant(self, scope: Scope, shown: Sequence[bytes]) -> Grant:
        if self._keys is None:
            return None
        # Whether it is there may be asked by what watches over it; a key that is shown is a good one all the same.
        if not shown and scope["path"] == HEALTH:
            return NOTHING
        return await self._keys.grant(shown)


def is_data(path: str) -> bool:
    """Whether a program asks there, and no person: its refusals are JSON."""
    return path.startswith("/v1/") or path == "/openapi.json"


def _plain(scope: Scope) -> None:
    """Problem if a request is not one that only reads, by an address of sense."""
    if scope["method"] not in ("GET", "HEAD"):
        raise Problem(405, f"{scope['method'][:20]} is not allowed: everything here is only read", Allow="GET, HEAD")
    if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST:
        raise Problem(414, f"the address is longer than {LONGEST} characters; shorten the query")
    if not _encoded(scope["raw_path"]) or not _encoded(scope["query_string"]):
        raise Problem(400, "the address is not percent-encoded UTF-8")


_HEADERS = [
    (b"content-security-policy", console.CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]


def _encoded(text: bytes) -> bool:
    """Whether each % is followed by two hexadecimal digits, and all of it is UTF-8."""
    if re.search(rb"%(?![0-9A-Fa-f]{2})", text):
        return False
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def _hostname(host: bytes) -> str:
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]
