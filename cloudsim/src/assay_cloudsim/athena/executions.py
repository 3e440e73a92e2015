"""Query executions: queued, run by a bounded pool, kept with their results until the server ends."""

import json
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from assay_cloudsim.athena import session as sessions
from assay_cloudsim.athena import values
from assay_cloudsim.athena.catalog import Catalog
from assay_cloudsim.athena.errors import Failed, Refused, Stopped
from assay_cloudsim.athena.session import Outcome, Session
from assay_cloudsim.athena.workgroups import ENGINE, WorkGroups, check_results

POOL, QUEUE, LONGEST = 4, 200, 262_144
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass
class Execution:
    """One query from its start on."""

    id: str
    asked: dict[str, Any]
    group: dict[str, Any]
    session: Session
    begun: float = field(default_factory=time.time)
    state: str = "QUEUED"
    reason: str | None = None
    error: dict[str, Any] | None = None
    ended: float | None = None
    ran: float | None = None
    outcome: Outcome = field(default_factory=Outcome)

    def told(self) -> dict[str, Any]:
        """QueryExecution of GetQueryExecution."""
        status: dict[str, Any] = {"State": self.state, "SubmissionDateTime": self.begun}
        if self.ended is not None:
            status["CompletionDateTime"] = self.ended
        if self.reason is not None:
            status["StateChangeReason"] = self.reason
        if self.error is not None:
            status["AthenaError"] = self.error
        total = int(((self.ended or time.time()) - self.begun) * 1000)
        engine = int(((self.ended or time.time()) - self.ran) * 1000) if self.ran else 0
        statistics: dict[str, Any] = {
            "EngineExecutionTimeInMillis": engine, "DataScannedInBytes": self.outcome.scanned,
            "TotalExecutionTimeInMillis": total, "QueryQueueTimeInMillis": total - engine, "ServiceProcessingTimeInMillis": 0,
            "ResultReuseInformation": {"ReusedPreviousResult": False},
        }  # fmt: skip
        if self.outcome.written is not None:
            statistics["DataManifestLocation"] = f"{self.output()}-manifest.csv"
        context = self.asked.get("QueryExecutionContext", {})
        return {
            "QueryExecutionId": self.id, "Query": self.asked["QueryString"], "StatementType": self.outcome.kind,
            "SubstatementType": self.outcome.substatement, "ResultConfiguration": {"OutputLocation": f"{self.output()}{self.outcome.suffix}"},
            "QueryExecutionContext": {k: v.lower() for k, v in context.items()}, "Status": status, "Statistics": statistics,
            "WorkGroup": self.group["Name"], "EngineVersion": ENGINE, "ResultReuseConfiguration": {"ResultReuseByAgeConfiguration": {"Enabled": False}},
        } | ({"ExecutionParameters": self.asked["ExecutionParameters"]} if self.asked.get("ExecutionParameters") else {})  # fmt: skip

    def output(self) -> str:
        return f"{self.session.results}{self.outcome.folder}{self.id}"


class Executions:
    """All queries of the account."""

    def __init__(self, catalog: Catalog, groups: WorkGroups) -> None:
        self._catalog, self._groups = catalog, groups
        self._lock = threading.Lock()
        self._all: dict[str, Execution] = {}
        self._tokens: dict[str, tuple[str, str]] = {}
        self._pool = ThreadPoolExecutor(POOL, thread_name_prefix="query")

    def start(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = {
            "QueryString",
            "ClientRequestToken",
            "QueryExecutionContext",
            "ResultConfiguration",
            "WorkGroup",
            "ExecutionParameters",
            "ResultReuseConfiguration",
        }
        if unknown := set(asked) - known:
            raise Refused(f"{', '.join(sorted(unknown))} is not emulated by this double of Athena")
        check_results(asked.get("ResultConfiguration", {}))
        sql = asked["QueryString"]
        if len(sql.encode()) > LONGEST:
            raise Refused(f"Query string is longer than {LONGEST} bytes")
        if asked.get("ResultReuseConfiguration", {}).get("ResultReuseByAgeConfiguration", {}).get("Enabled"):
            raise Refused("Reuse of results is not emulated by this double of Athena")
        catalog = asked.get("QueryExecutionContext", {}).get("Catalog", "AwsDataCatalog")
        if catalog.lower() != "awsdatacatalog":
            raise Refused(f"Catalog {catalog} is not emulated by this double of Athena: AwsDataCatalog is")
        group = self._groups.get(asked.get("WorkGroup", "primary"))
        if group["State"] != "ENABLED":
            raise Refused("WorkGroup is disabled.")
        same = json.dumps({k: v for k, v in asked.items() if k != "ClientRequestToken"}, sort_keys=True)
        token = asked.get("ClientRequestToken")
        with self._lock:
            if token in self._tokens:
                earlier, what = self._tokens[token]
                if what != same:
                    raise Refused("Idempotent parameters do not match", "IDEMPOTENT_PARAMETER_MISMATCH")
                return {"QueryExecutionId": earlier}
            if sum(e.state not in _ENDED for e in self._all.values()) >= QUEUE:
                raise Refused(
                    "You have exceeded the limit for the number of queries you can run concurrently.",
                    "TOO_MANY_REQUESTS",
                )
            results = self._results(asked, group)
            sessions.check(
                sql if not asked.get("ExecutionParameters") else _bound_or(sql, asked["ExecutionParameters"])
            )
            database = asked.get("QueryExecutionContext", {}).get("Database", "default").lower()
            id_ = str(uuid.uuid4())
            cutoff = group["Configuration"].get("BytesScannedCutoffPerQuery")
            made = Execution(id_, asked, group, Session(self._catalog, database, id_, results, cutoff))
            self._all[id_] = made
            if token:
                self._tokens[token] = (id_, same)
        self._pool.submit(self._run, made)
        return {"QueryExecutionId": id_}

    @staticmethod
    def _results(asked: dict[str, Any], group: dict[str, Any]) -> str:
        """Where the results go: the work group's place if it enforces it, else the client's, else the work group's."""
        configuration = group["Configuration"]
        of_group = configuration["ResultConfiguration"].get("OutputLocation")
        of_client = asked.get("ResultConfiguration", {}).get("OutputLocation")
        place = of_group if configuration["EnforceWorkGroupConfiguration"] and of_group else of_client or of_group
        if not place:
            raise Refused(
                "No output location provided. An output location is required either through the Workgroup result configuration setting or as an API input."
            )
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/.*)?", place):
            raise Refused("outputLocation is not a valid S3 path.")
        return f"{place.rstrip('/')}/"

    def _run(self, execution: Execution) -> None:
        with self._lock:
            if execution.state != "QUEUED":
                return
            execution.state, execution.ran = "RUNNING", time.time()
        try:
            sql = execution.asked["QueryString"]
            execution.outcome = _guess(sql)
            if parameters := execution.asked.get("ExecutionParameters"):
                sql = sessions.bound(sql, parameters)
            outcome = execution.session.run(sql)
            execution.outcome = outcome
            self._write(execution)
            self._end(execution, "SUCCEEDED")
        except Stopped as stopped:
            self._end(execution, "CANCELLED", str(stopped))
        except Failed as failed:
            execution.error = failed.athena_error()
            self._end(execution, "FAILED", str(failed))
        except Exception as error:  # noqa: BLE001 - whatever it is, the query is not left running
            unknown = Failed("GENERIC_INTERNAL_ERROR", f"{type(error).__name__}: {error}")
            execution.error = unknown.athena_error()
            self._end(execution, "FAILED", str(unknown))

    def _end(self, execution: Execution, state: str, reason: str | None = None) -> None:
        with self._lock:
            if execution.state not in _ENDED:
                execution.state, execution.reason, execution.ended = state, reason, time.time()

    def _write(self, execution: Execution) -> None:
        """The objects of a result: CSV with every value in quotes, text of DDL, or the manifest of what was written."""
        outcome, place = execution.outcome, execution.output()
        if outcome.suffix == ".csv" and outcome.columns:
            lines: list[list[str | None]] = [[n for n, _ in outcome.columns], *outcome.rows]
            body = "".join(
                ",".join("" if v is None else '"' + v.replace('"', '""') + '"' for v in line) + "\n" for line in lines
            )
            self._catalog.put(f"{place}.csv", body.encode())
        elif outcome.suffix == ".txt":
            body = "".join("\t".join(v or "" for v in line) + "\n" for line in outcome.rows)
            self._catalog.put(f"{place}.txt", body.encode(), "binary/octet-stream")
        if outcome.written is not None:
            self._catalog.put(f"{place}-manifest.csv", "".join(f"{a}\n" for a in outcome.written).encode())

    def of(self, id_: str) -> Execution:
        with self._lock:
            if id_ not in self._all:
                raise Refused(f"QueryExecution {id_} was not found")
            return self._all[id_]

    def get(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"QueryExecution": self.of(asked["QueryExecutionId"]).told()}

    def batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            found = [self._all[i] for i in asked["QueryExecutionIds"] if i in self._all]
        lost = [i for i in asked["QueryExecutionIds"] if i not in {e.id for e in found}]
        missing = [
            {"QueryExecutionId": i, "ErrorCode": "INVALID_INPUT", "ErrorMessage": f"QueryExecution {i} was not found"}
            for i in lost
        ]
        return {"QueryExecutions": [e.told() for e in found], "UnprocessedQueryExecutionIds": missing}

    def stop(self, asked: dict[str, Any]) -> dict[str, Any]:
        """CANCELLED at once; DuckDB is interrupted."""
        execution = self.of(asked["QueryExecutionId"])
        execution.session.stop()
        self._end(execution, "CANCELLED", "Query was cancelled by user")
        return {}

    def listed(self, asked: dict[str, Any]) -> dict[str, Any]:
        group, at = asked.get("WorkGroup", "primary"), int(asked.get("NextToken") or 0)
        with self._lock:
            ids = [e.id for e in reversed(self._all.values()) if e.group["Name"] == group]
        size = asked.get("MaxResults", 50)
        return {"QueryExecutionIds": ids[at : at + size]} | (
            {"NextToken": str(at + size)} if len(ids) > at + size else {}
        )

    def results(self, asked: dict[str, Any]) -> dict[str, Any]:
        execution = self.of(asked["QueryExecutionId"])
        if execution.state != "SUCCEEDED":
            raise Refused(f"Query did not finish successfully. Final query state: {execution.state}" if execution.state in _ENDED else f"Query has not yet finished. Current state: {execution.state}", "INVALID_QUERY_EXECUTION_STATE")  # fmt: skip
        size, outcome = asked.get("MaxResults", 1000), execution.outcome
        if not 1 <= size <= 1000:
            raise Refused("MaxResults is more than maximum allowed length 1000.")
        if not re.fullmatch(r"\d*", token := asked.get("NextToken") or ""):
            raise Refused("Invalid token")
        at = int(token or 0)
        header = [[n for n, _ in outcome.columns]] if outcome.suffix == ".csv" and outcome.columns else []
        count = len(header) + len(outcome.rows)
        page = [
            header[0] if header and i == 0 else outcome.rows[i - len(header)] for i in range(at, min(count, at + size))
        ]
        found: dict[str, Any] = {"ResultSet": {
            "Rows": [{"Data": [{"VarCharValue": v} if v is not None else {} for v in row]} for row in page],
            "ResultSetMetadata": {"ColumnInfo": [values.column_info(n, t) for n, t in outcome.columns]},
        }, "UpdateCount": outcome.updated or 0}  # fmt: skip
        return found | ({"NextToken": str(at + size)} if count > at + size else {})

    def statistics(self, asked: dict[str, Any]) -> dict[str, Any]:
        execution = self.of(asked["QueryExecutionId"])
        told = execution.told()["Statistics"]
        timeline = {
            k: told[k]
            for k in (
                "QueryQueueTimeInMillis",
                "EngineExecutionTimeInMillis",
                "ServiceProcessingTimeInMillis",
                "TotalExecutionTimeInMillis",
            )
        }
        rows = {"InputBytes": execution.outcome.scanned, "OutputRows": len(execution.outcome.rows)}
        return {"QueryRuntimeStatistics": {"Timeline": timeline, "Rows": rows}}


def _bound_or(sql: str, parameters: list[str]) -> str:
    try:
        return sessions.bound(sql, parameters)
    except Failed:  # told by the query when it runs
        return sql


def _guess(sql: str) -> Outcome:
    """The kind of a query that has not ended, or failed."""
    name = sessions.handler(sql).__name__
    if name in ("query", "change", "unload", "optimize", "explain", "insert"):
        return Outcome("DML", suffix=".csv")
    return Outcome("UTILITY" if name == "describe" else "DDL")
