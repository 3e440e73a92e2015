"""An independent witness: a TCP proxy that keeps every byte a server sent, and reads them as HTTP answers later."""

import gzip
import io
import re
import socket
import threading
from http.client import HTTPResponse
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+0-9.eE]+|true|false|null|[{}\[\],:]')


class Proxy:
    """Forwards to one server; `answers()` are the bodies it sent, inflated."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}{self._to.path}"
        self.sent: list[bytearray] = []
        self.asked: list[bytearray] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection((self._to.hostname or "", self._to.port or 80))
            asked, sent = bytearray(), bytearray()
            self.asked.append(asked)
            self.sent.append(sent)
            for source, target, log in ((near, far, asked), (far, near, sent)):
                threading.Thread(target=self._pump, args=(source, target, log), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, log: bytearray) -> None:
        try:
            while data := source.recv(65536):
                log += data
                target.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, target):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                one.close()

    def answers(self) -> list[bytes]:
        """Every body, in the order of its connection."""
        out = []
        for sent in self.sent:
            stream = io.BufferedReader(io.BytesIO(bytes(sent)))
            while stream.peek(1):
                answer = HTTPResponse(_Socket(stream))  # type: ignore[arg-type]
                answer.begin()
                body = answer.read()
                out.append(gzip.decompress(body) if answer.getheader("Content-Encoding") == "gzip" else body)
        return out


class _Socket:
    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def makefile(self, _: str) -> "_Open":
        return _Open(self._stream)


class _Open:
    """The stream, which stays open when one answer is done with it."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.read, self.readline, self.readinto, self.read1, self.peek = (
            stream.read, stream.readline, stream.readinto, stream.read1, stream.peek,
        )  # fmt: skip

    def close(self) -> None:
        """Leave it open."""

    def flush(self) -> None:
        """Nothing is written."""


def tokens(data: bytes) -> bytes:
    """JSON tokens as they are spelt, apart by a byte no token holds."""
    return b"\0".join(TOKEN.findall(data))
