"""`assay deploy`: compares what a Prefect server holds with what a lake wants of it, and makes it so."""

import hashlib
import importlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import prefect
from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import actions
from prefect.exceptions import ObjectNotFound
from prefect.filesystems import LocalFileSystem
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from assay.clock import now
from assay.errors import AssayError, LakeBusy, UsageError
from assay.flows import described
from assay.flows.wanted import Wanted, wanted
from assay.run import Lake

PAGE = 200
OWNED = 100
"""Names in one variable: it holds 5,000 characters."""
LEASE = timedelta(minutes=1)
"""So long nobody else deploys, should this process be killed; who wants to waits for it."""


@dataclass(frozen=True)
class Change:
    """What is to be done with one thing: `add`, `change` or `remove`, and of which field what becomes what."""

    what: str
    kind: str
    name: str
    fields: tuple[tuple[str, Any, Any], ...] = ()


def deploy(lake: Lake, *, dry: bool = False, destroy: bool = False) -> list[Change]:
    """Make the server hold what the lake wants, or with `destroy` nothing of it; what was done, or with `dry` would be.

    What is there and belongs to nobody's deploy, or to another lake's, is left alone: a name that both want is refused.

    UsageError for a server that is not there, is of another version or belongs to others; LakeBusy while somebody else
    deploys this environment.
    """
    settings = lake.target.settings
    named = f"{settings.name}/{settings.env}"
    owner = "_".join(["assay", *re.findall(r"[a-z0-9]+", named.lower()), _digest(named)[:6]])[-200:].lstrip("_")
    said = described.read(lake.root, settings.env)
    want: Wanted = {} if destroy else wanted(settings, lake.contracts, said, lake.target.name)
    with _server() as client:
        if dry:
            return _changes(client, want, owner)
        ledger, me = lake.target.ledger, f"{socket.gethostname()}:{os.getpid()}"
        until = now() + LEASE
        while not ledger.claim("deploy", me, now() + LEASE):
            if now() < until:
                time.sleep(0.5)
                continue
            raise LakeBusy(f"somebody else deploys {settings.name}, {settings.env}; try again in a minute")
        try:
            changes = _changes(client, want, owner)
            _apply(client, changes, want, owner)
            return changes
        finally:
            ledger.claim("deploy", me, now())


class _server:  # noqa: N801 - a context manager that reads as the thing it gives
    """A client of the server that PREFECT_API_URL names."""

    def __enter__(self) -> SyncPrefectClient:
        try:
            self._client = get_client(sync_client=True)
        except ValueError as error:
            raise UsageError("no Prefect server is known: set PREFECT_API_URL, or start one by `assay up`") from error
        self._client.__enter__()
        try:
            there = self._client.request("GET", "/admin/version").json()
        except httpx.HTTPStatusError as error:
            code = error.response.status_code
            if code in (401, 403):
                raise UsageError(
                    f"the Prefect server refused: {code}; PREFECT_API_AUTH_STRING must be its own"
                ) from None
            raise AssayError(
                f"the Prefect server answers {code}; its log says why: deploy again when it is well"
            ) from None
        except httpx.HTTPError as error:
            raise UsageError(
                f"the Prefect server does not answer ({type(error).__name__}); PREFECT_API_URL must name one that runs"
            ) from None
        here = prefect.__version__
        if _minor(str(there)) != _minor(here):
            raise UsageError(
                f"the server is Prefect {there} and this environment has {here}: install the same here, or start the server anew"
            )
        return self._client

    def __exit__(self, *error: object) -> None:
        self._client.__exit__(*error)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


# ------------------------------------------------------------------ what differs


def _changes(client: SyncPrefectClient, want: Wanted, owner: str) -> list[Change]:
    """What is to be added or changed, in the order of kinds; then what is to be removed, in the other order."""
    owned = set(_owned(client, owner))
    out: list[Change] = []
    going: list[Change] = []
    for kind, of in _KINDS.items():
        live = of.live(client)
        for name, said in want.get(kind, {}).items():
            spec = _comparable(kind, said)
            have = live.get(name)
            if have is None:
                out.append(Change("add", kind, name, tuple((key, None, value) for key, value in spec.items())))
                continue
            differ = [(key, _said_of(kind, key, value, have.get(key)), value) for key, value in spec.items()]
            fields = tuple((key, was, value) for key, was, value in differ if was != value)
            if f"{kind}.{name}" not in owned:
                _take(kind, name, fields)
            if fields or f"{kind}.{name}" not in owned:
                out.append(Change("change", kind, name, fields))
        mine = [name for name in live if f"{kind}.{name}" in owned and name not in want.get(kind, {})]
        going = [*(Change("remove", kind, name) for name in mine), *going]
    return [*out, *going]


def _take(kind: str, name: str, fields: Sequence[Any]) -> None:
    """UsageError for a thing that is somebody else's; what is as it is wanted, and nobody's, is taken."""
    if fields and not (kind == "queue" and name.endswith("/default")):
        raise UsageError(
            f"{kind} {name} is there already and is not ours: another lake or environment made it, or a hand. "
            f"Give this environment a Prefect server of its own, or remove that {kind} first"
        )


def _comparable(kind: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """As it would be read from a server: with what only the installed code says."""
    if kind == "deployment":
        schedules = [{**one, "active": True} for one in said["schedules"]]
        return {
            **said,
            "schedules": schedules,
            "parameter_schema": _digest(parameter_schema(_flow(said)).model_dump_for_openapi()),
        }
    return dict(said)


def _said_of(kind: str, key: str, want: Any, have: Any) -> Any:
    """What is there, without what a server adds of its own: to schedules and automations it adds defaults."""
    return _part(want, have) if kind == "automation" or key == "schedules" else have


def _part(want: Any, have: Any) -> Any:
    """Of what is there, what is wanted speaks of."""
    if isinstance(want, Mapping) and isinstance(have, Mapping):
        return {key: _part(value, have.get(key)) for key, value in want.items()}
    if isinstance(want, list) and isinstance(have, list) and len(want) == len(have):
        return [_part(a, b) for a, b in zip(want, have, strict=True)]
    return have


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _flow(said: Mapping[str, Any]) -> Any:
    module, _, name = str(said["entrypoint"]).rpartition(".")
    return getattr(importlib.import_module(module), name)


# ------------------------------------------------------------------ doing it


def _apply(client: SyncPrefectClient, changes: Sequence[Change], want: Wanted, owner: str) -> None:
    """Each thing's name is kept as ours before it is made, so that who is killed leaves nothing behind that is nobody's."""
    owned = _owned(client, owner)
    names = [f"{one.kind}.{one.name}" for one in changes if one.what != "remove"]
    _own(client, owner, list(dict.fromkeys([*owned, *names])), len(owned))
    for one in changes:
        of = _KINDS[one.kind]
        try:
            if one.what == "remove":
                of.drop(client, one.name)
            elif one.what == "add" or one.fields:
                of.put(client, one.name, dict(want[one.kind][one.name]), one.what == "change")
        except ObjectNotFound:
            if one.what != "remove":
                raise
        except httpx.HTTPStatusError as error:
            raise AssayError(
                f"the Prefect server refused to {one.what} {one.kind} {one.name}: {error.response.status_code} {_said(error)}"
            ) from None
    left = [f"{kind}.{name}" for kind, said in want.items() for name in said]
    _own(client, owner, left, max(len(owned), len(names) + len(owned)))


def _said(error: httpx.HTTPStatusError) -> str:
    try:
        return str(error.response.json().get("detail", ""))[:200]
    except ValueError:
        return ""


def _owned(client: SyncPrefectClient, owner: str) -> list[str]:
    out: list[str] = []
    n = 0
    while (found := client.read_variable_by_name(f"{owner}_{n}")) is not None:
        out += json.loads(str(found.value))
        n += 1
    return out


def _own(client: SyncPrefectClient, owner: str, names: Sequence[str], before: int) -> None:
    parts = [list(names[n : n + OWNED]) for n in range(0, len(names), OWNED)]
    for n in range(max(len(parts), -(-before // OWNED))):
        name = f"{owner}_{n}"
        there = client.read_variable_by_name(name)
        if n >= len(parts):
            if there is not None:
                client.delete_variable_by_name(name)
            continue
        value = json.dumps(parts[n])
        if there is None:
            client.create_variable(actions.VariableCreate(name=name, value=value, tags=["assay"]))
        elif there.value != value:
            client.update_variable(actions.VariableUpdate(name=name, value=value))


# ------------------------------------------------------------------ kinds


class _Variables:
    def live(self, client: SyncPrefectClient) -> dict[str, dict[str, Any]]:
        return {v.name: {"value": v.value, "tags": sorted(v.tags)} for v in client.read_variables(limit=PAGE)}

    def put(self, client: SyncPrefectClient, name: str, said: dict[str, Any], there: bool) -> None:
        if there:
            client.update_variable(actions.VariableUpdate(name=name, **said))
        else:
            client.create_variable(actions.VariableCreate(name=name, **said))

    def drop(self, client: SyncPrefectClient, name: str) -> None:
        client.delete_variable_by_name(name)


class _Limits:
    def live(self, client: SyncPrefectClient) -> dict[str, dict[str, Any]]:
        return {
            one.name: {"limit": one.limit, "active": one.active}
            for one in client.read_global_concurrency_limits(limit=PAGE)
        }

    def put(self, client: SyncPrefectClient, name: str, said: dict[str, Any], there: bool) -> None:
        if there:
            client.update_global_concurrency_limit(name, actions.GlobalConcurrencyLimitUpdate(**said))
        else:
            client.create_global_concurrency_limit(actions.GlobalConcurrencyLimitCreate(name=name, **said))

    def drop(self, client: SyncPrefectClient, name: str) -> None:
        client.delete_global_concurrency_limit_by_name(name)


class _Pools:
    def live(self, client: SyncPrefectClient) -> dict[str, dict[str, Any]]:
        keys = {"type", "description", "concurrency_limit", "is_paused", "base_job_template"}
        return {one.name: one.model_dump(include=keys) for one in client.read_work_pools(limit=PAGE)}

    def put(self, client: SyncPrefectClient, name: str, said: dict[str, Any], there: bool) -> None:
        if there:
            said.pop("type")
            client.update_work_pool(name, actions.WorkPoolUpdate(**said))
        else:
            said.setdefault("base_job_template", ProcessWorker.get_default_base_job_template())
            client.create_work_pool(actions.WorkPoolCreate(name=name, **said))

    def drop(self, client: SyncPrefectClient, name: str) -> None:
        client.delete_work_pool(name)


class _Queues:
    def live(self, client: SyncPrefectClient) -> dict[str, dict[str, Any]]:
        keys = {"priority", "concurrency_limit", "is_paused"}
        return {
            f"{pool.name}/{one.name}": one.model_dump(include=keys)
            for pool in client.read_work_pools(limit=PAGE)
            for one in client.read_work_queues(work_pool_name=pool.name, limit=PAGE)
        }

    def put(self, client: SyncPrefectClient, name: str, said: dict[str, Any], there: bool) -> None:
        pool, _, queue = name.partition("/")
        if not there:
            client.create_work_queue(name=queue, work_pool_name=pool, **said)
        else:
            client.update_work_queue(client.read_work_queue_by_name(queue, work_pool_name=pool).id, **said)

    def drop(self, client: SyncPrefectClient, name: str) -> None:
        pool, _, queue = name.partition("/")
        client.delete_work_queue_by_id(client.read_work_queue_by_name(queue, work_pool_name=pool).id)


class _Blocks:
    def live(self, client: SyncPrefectClient) -> dict[str, dict[str, Any]]:
        found = client.read_block_documents(limit=PAGE, include_secrets=False)
        return {f"{one.block_type.slug}/{one.name}": dict(one.data) for one in found if one.name and one.block_type}

    def put(self, client: SyncPrefectClient, name: str, said: dict[str, Any], there: bool) -> None:  # noqa: ARG002
        slug, _, block = name.partition("/")
        if slug == "s3-bucket":
            from prefect_aws import S3Bucket  # with no credentials of its own: those of the role of whoever opens it

            S3Bucket(**said).save(block, overwrite=True, client=client)
        else:
            LocalFileSystem(**said).save(block, overwrite=True, client=client)

    def drop(self, client: SyncPrefectClient, name: str) -> None:
        slug, _, block = name.partition("/")
        client.delete_block_document(client.read_block_document_by_name(block, slug).id)


class _Deployments:
    def live(self, client: SyncPrefectClient) -> dict[str, dict[str, Any]]:
        flows = {one.id: one.name for one in _all(client.read_flows)}
        return {
            f"{flows.get(one.flow_id, '?')}/{one.name}": {
                "entrypoint": one.entrypoint, "work_pool_name": one.work_pool_name, "work_queue_name": one.work_queue_name,
                "description": one.description, "parameters": one.parameters, "tags": sorted(one.tags), "paused": one.paused,
                "concurrency_limit": one.global_concurrency_limit.limit if one.global_concurrency_limit else None,
                "job_variables": one.job_variables, "schedules": [_schedule(s) for s in one.schedules],
                "parameter_schema": _digest(one.parameter_openapi_schema),
            }
            for one in _all(client.read_deployments)
        }  # fmt: skip

    def put(self, client: SyncPrefectClient, name: str, said: dict[str, Any], there: bool) -> None:  # noqa: ARG002
        flow = _flow(said)
        listed = [actions.DeploymentScheduleCreate(schedule=one, active=True) for one in said.pop("schedules")]
        client.create_deployment(
            flow_id=client.create_flow(flow), name=name.partition("/")[2], schedules=listed, pull_steps=[],
            parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(), enforce_parameter_schema=True, **said,
        )  # fmt: skip

    def drop(self, client: SyncPrefectClient, name: str) -> None:
        client.delete_deployment(client.read_deployment_by_name(name).id)


def _schedule(one: Any) -> dict[str, Any]:
    said = one.schedule.model_dump(mode="json", exclude_none=True)
    if "anchor_date" in said:
        said["anchor_date"] = one.schedule.anchor_date.isoformat()
    return {**said, "active": one.active}


class _Automations:
    def live(self, client: SyncPrefectClient) -> dict[str, dict[str, Any]]:
        names = {one.id: one for one in _all(client.read_deployments)}
        flows = {one.id: one.name for one in _all(client.read_flows)}
        out = {}
        for one in client.read_automations():
            said = one.model_dump(mode="json", include={"description", "enabled", "tags", "trigger", "actions"})
            for action in said["actions"]:
                if action.get("deployment_id"):
                    of = next((d for key, d in names.items() if str(key) == action["deployment_id"]), None)
                    action["deployment"] = f"{flows.get(of.flow_id, '?')}/{of.name}" if of else "?"
            for key in ("after", "expect", "for_each"):  # sets: they come back in any order
                if isinstance(said["trigger"].get(key), list):
                    said["trigger"][key] = sorted(said["trigger"][key])
            out[one.name] = said
        return out

    def put(self, client: SyncPrefectClient, name: str, said: dict[str, Any], there: bool) -> None:
        said = json.loads(json.dumps(said))
        for action in said["actions"]:
            if "deployment" in action:
                action["deployment_id"] = str(client.read_deployment_by_name(action.pop("deployment")).id)
        core = AutomationCore(name=name, **said)
        if there:
            client.update_automation(client.read_automations_by_name(name)[0].id, core)
        else:
            client.create_automation(core)

    def drop(self, client: SyncPrefectClient, name: str) -> None:
        for one in client.read_automations_by_name(name):
            client.delete_automation(one.id)


def _all(read: Any) -> Iterator[Any]:
    offset = 0
    while found := read(limit=PAGE, offset=offset):
        yield from found
        offset += len(found)


_KINDS: dict[str, Any] = {
    "variable": _Variables(), "limit": _Limits(), "pool": _Pools(), "queue": _Queues(), "block": _Blocks(),
    "deployment": _Deployments(), "automation": _Automations(),
}  # fmt: skip
