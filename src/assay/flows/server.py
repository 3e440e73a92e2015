"""`python -m assay.flows.server PORT`: Prefect's server behind a door: one password, our own names in Host and Origin, no telemetry."""

import asyncio
import hmac
import os
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from prefect.server.api.server import create_app

from assay import tether

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' ws://{host} wss://{host}; frame-ancestors 'none'"
"""A page of Prefect's may ask nobody but this server: its newer pages ask a host of their analytics, whatever is set."""
OPEN = ("/api/health", "/api/ready")


def door(application: Any, port: int, password: str) -> Any:
    """The application for who knows the password, as HTTP Basic; a browser asks for it by itself.

    Prefect's own check of WebSockets stands behind it: its clients say the password in their first message.
    """
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    wanted = b"Basic " + b64encode(password.encode())

    async def answer(scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await application(scope, receive, send)
            return
        said = {name.lower(): value for name, value in scope["headers"]}
        host, origin = said.get(b"host", b"").decode("latin-1"), said.get(b"origin")
        if host not in hosts or (
            origin is not None and origin.decode("latin-1") not in {f"http://{one}" for one in hosts}
        ):
            await _refuse(scope, send, 403, "this server answers to its own name alone\n")
        elif (
            scope["type"] == "http"
            and scope["path"] not in OPEN
            and not hmac.compare_digest(said.get(b"authorization", b""), wanted)
        ):
            await _refuse(scope, send, 401, "the password is in the file that `assay up` names\n")
        else:
            await application(scope, receive, _with_policy(send, host))

    return answer


async def _refuse(scope: _Scope, send: _Send, status: int, told: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="assay"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": told.encode()})


def _with_policy(send: _Send, host: str) -> _Send:
    policy = POLICY.format(host=host).encode()

    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", ()),
                (b"content-security-policy", policy),
                (b"referrer-policy", b"no-referrer"),
            ]
        await send(message)

    return sent


async def main(port: int) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT."""
    application = door(create_app(), port, os.environ["PREFECT_SERVER_API_AUTH_STRING"])
    config = uvicorn.Config(
        application, host="127.0.0.1", port=port, log_level="warning", access_log=False, server_header=False,
        timeout_keep_alive=5, timeout_graceful_shutdown=5,
    )  # fmt: skip
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    tether.follow()
    asyncio.run(main(int(sys.argv[1])))
