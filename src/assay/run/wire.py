"""One connection of the server: what comes too slowly or with too many headers is closed, and keeps nobody waiting."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS = 64 * 2**10
_SAID = b"the headers are larger than 64 KB; send fewer"
_REFUSED = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_SAID), _SAID)
)


class Wire(HttpToolsProtocol):
    """uvicorn's connection, with a bound on headers, and on the time until a request has arrived whole."""

    patience = 10.0
    _size, _heading = 0, True
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._late = self.loop.call_later(self.patience, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; headers that do not end are refused when they are too many."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._size += len(data) if self._heading else 0
        if self._heading and self._size > HEADERS:
            self._refuse()

    def on_message_begin(self) -> None:
        """Wait for the rest of it."""
        super().on_message_begin()
        self._size, self._heading = 0, True
        if self._late is None:
            self._late = self.loop.call_later(self.patience, self.transport.close)

    def on_headers_complete(self) -> None:
        """Ask the application, unless the headers are too many."""
        self._heading = False
        if sum(len(name) + len(value) + 4 for name, value in self.headers) > HEADERS:
            self._refuse()
        elif not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep it for the application, if that was asked."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """It is here whole, and idle connections are uvicorn's."""
        self._in_time()
        self._size, self._heading = 0, True
        if not self.transport.is_closing():
            super().on_message_complete()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_REFUSED)
            self.transport.close()

    def _in_time(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None
