"""Athena's wire protocol: JSON 1.1 over HTTP, the operation in X-Amz-Target."""

import json
import sys
import tempfile
import traceback
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from assay_cloudsim.athena.catalog import Catalog
from assay_cloudsim.athena.errors import Refused
from assay_cloudsim.athena.executions import Executions
from assay_cloudsim.athena.metadata import Metadata, MissingMetadata
from assay_cloudsim.athena.workgroups import WorkGroups

LARGEST = 2 * 1024 * 1024
Operation = Callable[[dict[str, Any]], dict[str, Any]]


def operations(catalog: Catalog) -> dict[str, Operation]:
    """What is answered, by name."""
    groups = WorkGroups()
    queries, metadata = Executions(catalog, groups), Metadata(catalog)
    return {
        "StartQueryExecution": queries.start, "GetQueryExecution": queries.get, "BatchGetQueryExecution": queries.batch,
        "StopQueryExecution": queries.stop, "ListQueryExecutions": queries.listed, "GetQueryResults": queries.results,
        "GetQueryRuntimeStatistics": queries.statistics, "CreateWorkGroup": groups.create, "UpdateWorkGroup": groups.update,
        "DeleteWorkGroup": groups.delete, "ListWorkGroups": groups.listed,
        "GetWorkGroup": lambda asked: {"WorkGroup": groups.get(asked["WorkGroup"])}, "GetDataCatalog": metadata.catalog,
        "ListDataCatalogs": metadata.catalogs, "ListDatabases": metadata.databases, "GetDatabase": metadata.database,
        "ListTableMetadata": metadata.tables, "GetTableMetadata": metadata.table,
    }  # fmt: skip


class Server(ThreadingHTTPServer):
    """A thread a connection; queries run in a pool of their own."""

    daemon_threads = True

    def __init__(self, endpoints: Mapping[str, str], port: int, cache: Path) -> None:
        self.operations = operations(Catalog(endpoints, cache))
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """A probe of whether the server is up."""
        self._answer(200, {"service": "athena"})

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if size > LARGEST:
            self.close_connection = True
            self._answer(413, {"__type": "InvalidRequestException", "Message": "the request is too large"})
            return
        body = self.rfile.read(size)
        service, _, name = self.headers.get("X-Amz-Target", "").partition(".")
        operation = self.server.operations.get(name) if service == "AmazonAthena" else None
        try:
            asked = json.loads(body or b"{}")
            if operation is None:
                raise Refused(f"{name or 'an operation'} is not emulated by this double of Athena", "NOT_EMULATED")  # noqa: TRY301
            self._answer(200, operation(asked))
        except Refused as error:
            kind = "TooManyRequestsException" if error.code == "TOO_MANY_REQUESTS" else "InvalidRequestException"
            self._answer(400, {"__type": kind, "Message": str(error), "AthenaErrorCode": error.code})
        except MissingMetadata as error:
            self._answer(400, {"__type": "MetadataException", "Message": str(error)})
        except (KeyError, ValueError) as error:
            self._answer(
                400,
                {
                    "__type": "InvalidRequestException",
                    "Message": f"The request is malformed: {error}",
                    "AthenaErrorCode": "INVALID_INPUT",
                },
            )
        except Exception as error:  # noqa: BLE001 - a defect here, or Glue or S3 that is away: the client learns which
            traceback.print_exc(file=sys.stderr)
            self._answer(500, {"__type": "InternalServerException", "Message": f"{type(error).__name__}: {error}"})

    def _answer(self, status: int, said: dict[str, Any]) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        for name, value in (
            ("Content-Type", "application/x-amz-json-1.1"),
            ("Content-Length", str(len(body))),
            ("x-amzn-RequestId", str(uuid.uuid4())),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Says nothing of each request."""


def serve(endpoints: Mapping[str, str], port: int) -> None:
    """Answers as Athena on 127.0.0.1 until the process ends; `endpoints` has the URLs of "s3" and "glue"."""
    with tempfile.TemporaryDirectory(prefix="athena-") as cache, Server(endpoints, port, Path(cache)) as server:
        server.serve_forever()
