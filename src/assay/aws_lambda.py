"""Entry points of AWS Lambda: the API of a lake's gold behind API Gateway, and an authorizer that knows the lake's keys.

Both are for HTTP APIs with payload format 2.0. The lake's `assay.toml` lies beside the code, in `lake/`; `ASSAY_ENV` says the
environment. What is opened stays so between invocations of one instance, and is opened anew where opening failed.
"""

import asyncio
import json
import logging
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from assay import settings, targets
from assay.errors import AssayError, SettingsError
from assay.ports import Limits
from assay.targets import Target

if TYPE_CHECKING:
    from fastapi import FastAPI
    from mangum import Mangum
    from starlette.types import Receive, Scope, Send

    from assay.serve.door import Keys

DEADLINE = 25.0
"""Seconds of a query: API Gateway waits 30 for an answer (https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html)."""
MOST = 6 * 2**20 - 2**16
"""Bytes of JSON that Lambda passes on, less some for what it may add (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""
_log = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """The answer of the lake's REST API to a request, gold alone; as `assay serve` beyond loopback, to who shows a key."""
    from assay.serve.door import problem_json
    from assay.serve.query import Problem

    answer: dict[str, Any] = _adapter()(event, context)
    if len(answer["body"]) > MOST // 8 and len(json.dumps(answer, ensure_ascii=False).encode()) > MOST:
        told = problem_json(
            Problem(400, "this page is larger than what AWS Lambda passes on (6 MB); ask for fewer rows: limit, select")
        )
        headers = {name.decode(): text.decode() for name, text in told.raw_headers}
        answer = {"statusCode": 400, "headers": headers, "body": bytes(told.body).decode(), "isBase64Encoded": False}
    return answer


def authorizer(event: dict[str, Any], _: Any) -> dict[str, Any]:
    """Whether a request shows a key of the lake that is good, as API Gateway's simple response; `context.key` is its name.

    It fails, which API Gateway answers by 500, where the keys cannot be read.
    """
    from assay.serve.query import Problem

    shown = [text.encode() for name, text in (event.get("headers") or {}).items() if name.lower() == "authorization"]
    try:
        key = _runner().run(_keys().holder(shown))
    except Problem as refused:
        if refused.status != 401:
            raise
        return {"isAuthorized": False}
    return {"isAuthorized": True, "context": {"key": key.name}}


@cache
def _adapter() -> "Mangum":
    from mangum import Mangum

    logging.getLogger("mangum").setLevel(logging.WARNING)  # it logs paths as they came
    # No lifespan: Mangum would end it with each invocation, and the release with it.
    return Mangum(_served, lifespan="off", text_mime_types=["text/", "application/json", "application/problem+json"])


async def _served(scope: "Scope", receive: "Receive", send: "Send") -> None:
    from assay.serve.door import problem_json
    from assay.serve.query import Problem

    scope["raw_path"] = scope["aws.event"]["rawPath"].encode()  # which Mangum leaves out
    try:
        application = _application()
    except AssayError as error:
        _log.error("the lake cannot be opened: %s", error)
        refused = Problem(
            500, "the lake cannot be opened; its owner finds the reason in the function's log", "operator"
        )
        await problem_json(refused)(scope, receive, send)
        return
    await application(scope, receive, send)


@cache
def _application() -> "FastAPI":
    from assay.serve import rest

    target = _target()
    return rest.app(
        target.files, target.ledger, {}, explain=None, title=target.settings.name, limits=_limits(target.limits),
        key=target.secrets.ensure("cursor"), hosts=None, keyed=True, deadline=DEADLINE, silver=False, pages=False,
    )  # fmt: skip


@cache
def _keys() -> "Keys":
    from assay.serve.door import Keys

    return Keys(_target().files)


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


@cache
def _target() -> Target:
    """The lake in target `aws`; its copies and what DuckDB spills go to /tmp, the only place that can be written."""
    root = Path(os.environ["LAMBDA_TASK_ROOT"]) / "lake"
    if not (env := os.environ.get("ASSAY_ENV")):
        raise SettingsError("ASSAY_ENV is not set: the function's configuration must say which environment it serves")
    read = settings.read(root, env)
    return targets.open("aws", replace(read, data=Path(gettempdir()) / "assay" / env))


def _limits(limits: Limits) -> Limits:
    """`[lake] memory`, but no more than half of what the function has: the rest is Python's, and the pages'."""
    half = int(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) // 2  # MB
    return replace(limits, memory=f"{half}MiB") if settings.size(limits.memory) > half * 2**20 else limits
