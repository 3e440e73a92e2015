"""JSON 1.1 over HTTP: operations by X-Amz-Target, errors by name, each request held against botocore's model of ECS."""

import json
import socket
import sys
import traceback
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError
from botocore.validate import ParamValidator

_PREFIX = "AmazonEC2ContainerServiceV20141113."
_LARGEST = 1 << 20  # bytes of a request

Operation = Callable[[dict[str, Any]], dict[str, Any]]


class Refused(Exception):
    """An error that ECS's model knows: its name and what it says."""

    def __init__(self, name: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.name = name
        self.body = {"__type": name, "message": message, **more}


def client_error(message: str) -> Refused:
    """What ECS says to a definition that cannot be."""
    return Refused("ClientException", message)


def invalid(message: str) -> Refused:
    """What ECS says to a parameter that cannot be."""
    return Refused("InvalidParameterException", message)


def refuse_beyond(known: set[str], given: dict[str, Any], where: str) -> None:
    """ClientException for a key that is not `known`: what has no effect here is not accepted."""
    for name, value in given.items():
        if name not in known and value not in (None, [], {}, ""):
            raise client_error(f"assay-cloudsim does not do {where}.{name}: nothing would come of it")


class _Answers:
    def __init__(self, operations: dict[str, Operation]) -> None:
        self._operations = operations
        self._model = botocore.session.get_session().get_service_model("ecs")

    def answer(self, target: str, body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            return 200, self._answer(target, body)
        except Refused as refused:
            return 400, refused.body
        except Exception as error:  # noqa: BLE001 (a bug of ours is an answer too, never a hang)
            traceback.print_exc()
            return 500, {
                "__type": "ServerException",
                "message": f"assay-cloudsim failed: {type(error).__name__}: {error}",
            }

    def _answer(self, target: str, body: bytes) -> dict[str, Any]:
        name = target.removeprefix(_PREFIX)
        if name not in self._operations or not target.startswith(_PREFIX):
            known = ", ".join(sorted(self._operations))
            raise Refused(
                "UnsupportedOperationException", f"assay-cloudsim's ECS does not know {target!r}; it knows {known}"
            )
        try:
            given = json.loads(body or b"{}")
        except ValueError:
            raise Refused("SerializationException", "the body is no JSON") from None
        shape: Any = self._model.operation_model(name).input_shape
        found = ParamValidator().validate(given, shape)
        if found.has_errors():
            raise invalid(found.generate_report())
        return self._operations[name](given)


def serve(descriptor: int, operations: dict[str, Operation], look: Callable[[str], dict[str, Any] | None]) -> None:
    """Serve ECS on a socket that listens already; GET is for tasks that ask about themselves."""
    answers = _Answers(operations)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 <= length <= _LARGEST:
                self.close_connection = True
                return self._say(413, {"__type": "SerializationException", "message": "the request is too large"})
            return self._say(*answers.answer(self.headers.get("X-Amz-Target", ""), self.rfile.read(length)))

        def do_GET(self) -> None:
            try:
                found = look(self.path)
            except (ClientError, BotoCoreError) as error:  # a role that is gone
                return self._say(500, {"message": str(error)})
            return self._say(
                404 if found is None else 200, found or {"message": f"assay-cloudsim's ECS has no {self.path}"}
            )

        def _say(self, status: int, body: dict[str, Any]) -> None:
            said = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(said)))
            self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *words: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        disable_nagle_algorithm = True

        def handle_error(self, *_: Any) -> None:
            if not isinstance(sys.exc_info()[1], OSError):
                traceback.print_exc()

    server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=descriptor)
    server.server_address = server.socket.getsockname()
    server.serve_forever()
