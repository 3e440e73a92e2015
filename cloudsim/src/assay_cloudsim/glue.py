"""Glue's catalog: moto's server with what Iceberg's commits rest on, one request at a time and UpdateTable's VersionId.

moto 5.2.5 does not look at VersionId, so that the later of two commits wins and the earlier is lost though it was
acknowledged. AWS answers ConcurrentModificationException:
https://docs.aws.amazon.com/glue/latest/dg/aws-glue-api-catalog-tables.html#aws-glue-api-catalog-tables-UpdateTable
"""

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.glue.responses import GlueResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

_ALONE = threading.RLock()
_PREFIX = "AWSGlue."
_OPERATIONS = {
    *("CreateDatabase", "DeleteDatabase", "GetDatabase", "GetDatabases", "UpdateDatabase"),
    *("CreateTable", "DeleteTable", "BatchDeleteTable", "GetTable", "GetTables", "UpdateTable"),
    *("GetTableVersion", "GetTableVersions", "DeleteTableVersion", "BatchDeleteTableVersion"),
    *("CreatePartition", "BatchCreatePartition", "GetPartition", "GetPartitions", "BatchGetPartition"),
    *("UpdatePartition", "BatchUpdatePartition", "DeletePartition", "BatchDeletePartition"),
    *("GetTags", "TagResource", "UntagResource"),
}
"""What really does what it says. moto answers more (jobs that succeed without running, for one)."""


class ConcurrentModification(JsonRESTError):  # type: ignore[misc]
    """Another UpdateTable came first."""

    code = 400

    def __init__(self) -> None:
        super().__init__("ConcurrentModificationException", "Update table failed due to concurrent modifications.")


def mend() -> None:
    """Make each of moto's Glue requests atomic, and UpdateTable compare VersionId before it writes."""
    call, update = GlueResponse.call_action, GlueResponse.update_table

    def call_alone(self: GlueResponse) -> Any:
        with _ALONE:
            return call(self)

    def update_compared(self: GlueResponse) -> Any:
        seen = self.parameters.get("VersionId")
        named = self.parameters["DatabaseName"], self.parameters["TableInput"]["Name"]
        if seen is not None and str(seen) != self.glue_backend.get_table(*named).as_dict()["VersionId"]:
            raise ConcurrentModification
        return update(self)

    GlueResponse.call_action = call_alone
    GlueResponse.update_table = update_compared


def serve(descriptor: int, *, mended: bool = True) -> None:
    """Serve Glue's catalog until SIGTERM; the tests alone leave moto as it is, to see what is mended."""
    if mended:
        mend()
    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target.removeprefix(_PREFIX) in _OPERATIONS and target.startswith(_PREFIX):
            return moto(environ, start)  # type: ignore[no-any-return]
        said = f"assay-cloudsim's Glue is a catalog: it does not know {target or 'a request without X-Amz-Target'}"
        body = json.dumps({"__type": "UnsupportedOperationException", "Message": said}).encode()
        start("400 Bad Request", [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))])
        return [body]

    make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler, fd=descriptor).serve_forever()
