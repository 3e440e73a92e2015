"""A way to a service that fails as told: refuses before the service hears of it, or after it did what was asked, or breaks off."""

import http.client
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_ONE_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}
S3_ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{}</Code><Message>as told</Message></Error>"
JSON_ERROR = '{{"__type": "{}", "message": "as told"}}'


@dataclass(frozen=True)
class Fault:
    """What becomes of a request whose method, path and operation match: `times` of them, then no more.

    `done`: the service does what was asked first. Without a status the connection is reset; `cut` answers the right head and half the body.
    """

    match: str
    status: int = 0
    body: str = ""
    done: bool = False
    cut: bool = False
    times: int = 1


@dataclass
class Faulty:
    """A proxy on loopback to one service; `told` are its faults to come, `asked` counts requests by method or operation."""

    to: str
    told: list[Fault] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fails(self, match: str, **how: object) -> None:
        """One more fault."""
        with self._lock:
            self.told.append(Fault(match, **how))  # type: ignore[arg-type]

    def fault(self, what: str) -> Fault | None:
        """The fault of a request, if it has one."""
        with self._lock:
            for n, one in enumerate(self.told):
                if re.search(one.match, what):
                    self.told[n : n + 1] = [] if one.times == 1 else [Fault(**{**vars(one), "times": one.times - 1})]
                    return one
        return None

    @contextmanager
    def running(self) -> Iterator["Faulty"]:
        """Listen while the block runs."""
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def handle_one(self) -> None:
                if self.headers.get("Expect", "").lower() == "100-continue":
                    pass  # the server class has answered it
                body = self._body()
                operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
                what = f"{self.command} {self.path} {operation}"
                faulty.asked[operation or self.command] += 1
                fault = faulty.fault(what)
                if fault is None or fault.done or fault.cut:
                    status, headers, data = self._forward(body)
                if fault is None:
                    return self._answer(status, headers, data)
                if fault.cut:
                    return self._answer(status, headers, data, len(data) // 2)
                if not fault.status:
                    return self._reset()
                return self._answer(fault.status, [("Content-Type", "application/xml")], fault.body.encode())

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815 - the server class's names

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    out = b""
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        out += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                    return out
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                con = http.client.HTTPConnection(urlsplit(faulty.to).netloc, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _ONE_HOP | {"expect"}}
                con.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                answer = con.getresponse()
                data = answer.read()
                con.close()
                return answer.status, answer.getheaders(), data

            def _answer(
                self, status: int, headers: list[tuple[str, str]], data: bytes, upto: int | None = None
            ) -> None:
                self.send_response(status)
                size = len(data)
                for name, value in headers:
                    if self.command == "HEAD" and name.lower() == "content-length":
                        size = int(value)
                    if name.lower() not in _ONE_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[:upto])
                if upto is not None:
                    self.wfile.flush()
                    self._reset()

            def _reset(self) -> None:
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A connection that was reset is what was wished."""

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
