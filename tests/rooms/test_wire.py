"""The server's connections: what is slow, half or too large is closed, and others are answered meanwhile."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from assay.run import server

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
PATIENCE = 1.0


async def hello(scope, receive, send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server.serving(hello, "127.0.0.1", 0, PATIENCE) as url:
        yield url


def opened(url: str) -> socket.socket:
    where = urlsplit(url)
    made = socket.create_connection((where.hostname, where.port))
    made.settimeout(PATIENCE + 10)
    return made


def heard(raw: socket.socket) -> bytes:
    """All that comes until the server closes."""
    out = b""
    try:
        while more := raw.recv(65_536):
            out += more
    except ConnectionResetError:
        pass
    return out


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", GET, GET + b"x: 1", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc"],
    ids=["nothing", "a letter", "half the headers", "half a header", "half a body"],
)
def test_a_request_that_does_not_arrive_whole_is_closed(url: str, sent: bytes) -> None:
    with opened(url) as raw:
        raw.sendall(sent)
        begun = time.monotonic()
        heard(raw)
        assert time.monotonic() - begun < PATIENCE + 10
        assert httpx.get(url).text == "hello"


def test_a_letter_now_and_then_is_no_patience_gained(url: str) -> None:
    with opened(url) as raw:
        begun, sent = time.monotonic(), iter(GET + b"x" * 1000)

        def dribble() -> None:
            for letter in sent:
                raw.sendall(bytes([letter]))
                time.sleep(0.1)

        with pytest.raises(OSError, match=r"(?i)broken pipe|reset"):
            dribble()
        assert time.monotonic() - begun < PATIENCE + 10


@pytest.mark.slow
def test_an_idle_connection_is_closed(url: str) -> None:
    with opened(url) as raw:
        raw.sendall(GET + b"\r\n")
        assert heard(raw).endswith(b"hello")


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""], ids=["whole", "without an end"])
@pytest.mark.parametrize(
    "headers", [b"x: " + b"y" * 70_000, b"\r\n".join(b"x%d: y" % n for n in range(9000))], ids=["one", "many"]
)
def test_headers_beyond_64_kb_are_refused(url: str, headers: bytes, end: bytes) -> None:
    with opened(url) as raw:
        begun = time.monotonic()
        raw.sendall(GET + headers + end)
        assert heard(raw).split()[1] == b"431"
        assert time.monotonic() - begun < PATIENCE + 10


def test_headers_below_are_not(url: str) -> None:
    with opened(url) as raw:
        for _ in range(3):
            raw.sendall(GET + b"x: " + b"y" * 60_000 + b"\r\n\r\n")
            assert raw.recv(65_536).startswith(b"HTTP/1.1 200")


def test_two_hundred_half_requests_keep_nobody_waiting(url: str) -> None:
    half = [opened(url) for _ in range(200)]
    for raw in half:
        raw.sendall(GET)
    assert httpx.get(url, timeout=30).text == "hello"
    for raw in half:
        heard(raw)
        raw.close()
