"""What a lake's Prefect server should hold: what its contracts imply, and what `deploy.yaml` describes. Plain values, no server."""

from collections.abc import Iterator, Mapping
from typing import Any

from assay.contract.model import Contract
from assay.flows import aws, schedules
from assay.flows.described import Described, Pool, over
from assay.settings import Settings
from assay.windows import Duration

Wanted = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By kind, in the order they are made, and by name: what is wanted of it. What is not said here may be anything."""

LANDED, REFINED, GATE = "assay.landed", "assay.refined", "assay.gate.closed"
"""Events that flows emit, one a dataset: a live load's new landing, new silver, a gate that holds a batch."""
BEATS = 30
"""Seconds between two heartbeats of a flow run; Prefect takes no less."""
DEAD = 95
"""Seconds without a heartbeat after which a run is taken for dead: three of them, and some."""
STUCK = 300
"""Seconds that a run may be about to start."""
_FINAL = [
    f"prefect.flow-run.{state}" for state in ("Cancelled", "Completed", "Crashed", "Failed", "Paused", "Suspended")
]
_LAST = [*_FINAL, "prefect.flow-run.Scheduled", "prefect.flow-run.AwaitingRetry", "prefect.flow-run.Late"]


def tags(settings: Settings) -> list[str]:
    """By what the things of one environment of a lake are known on a server."""
    return sorted({f"lake:{settings.name}", f"env:{settings.env}"})


def wanted(
    settings: Settings, contracts: Mapping[str, Contract], described: Described, target: str = "local"
) -> Wanted:
    """All of it, for one environment of a lake."""
    root, name, env, data = settings.root, settings.name, settings.env, settings.data
    mine = tags(settings)
    jobs: dict[str, Mapping[str, Any]] = {"dbt-ecs-task": {}} | dict(described.jobs)
    place = {"env": {"ASSAY_LAKE": str(root.resolve()), "ASSAY_ENV": env, "ASSAY_TARGET": target}}
    pool: dict[str, Any] = {"type": "process"}
    bronze: dict[str, Any] = {"local-file-system/bronze-storage": {"basepath": str(data / "bronze")}}
    if target == "aws":
        cloud = aws.of(settings)
        place["env"]["ASSAY_METRICS"] = "emf"
        place["env"].pop("ASSAY_LAKE")  # the directory is the image's, and its definition says where
        pool = {"type": "ecs", "base_job_template": aws.template(cloud)}
        bronze = {"s3-bucket/bronze-storage": aws.block(cloud, env)}

    def deployment(flow: str, pool: str, about: str, **more: Any) -> dict[str, Any]:
        job = over(place, more.pop("job", {}))
        return {
            "entrypoint": f"assay.flows.{flow}", "work_pool_name": pool, "work_queue_name": "default", "description": about,
            "parameters": {}, "tags": mine, "schedules": [], "paused": False, "concurrency_limit": None, "job_variables": job,
        } | more  # fmt: skip

    def scheduled(kind: str) -> list[dict[str, Any]]:
        return list(_schedules(described.schedules[kind], "UTC"))

    deployments = {
        f"land/{dataset}": deployment(
            "steps.land", "ingest", f"Lands what is missing of {dataset}.", work_queue_name="live",
            parameters={"select": [dataset]}, schedules=[schedules.of(contract)],
        )
        for dataset, contract in contracts.items()
    } | {
        "refine/landed": deployment("steps.refine", "transform", "Refines what is landed and not folded yet.", schedules=scheduled("refine")),
        "build/gold": deployment("steps.build", "transform", "Builds and releases gold, if anything changed.", schedules=scheduled("build"), job=jobs["dbt-ecs-task"]),
        "upkeep/lake": deployment("steps.upkeep", "transform", "Compacts, expires and removes, after saying what it would do.", schedules=scheduled("upkeep")),
        "backfill-ingestion/backfill": deployment("backfill.backfill_historical_data", "backfill", "Lands, refines and releases the days of a span."),
    }  # fmt: skip
    if settings.alerts:
        deployments["alerts/lake"] = deployment(
            "steps.alerts", "transform", "Tells webhooks what fires and what is over.", schedules=scheduled("alerts")
        )
    return {
        "variable": {one: {"value": value, "tags": mine} for one, value in described.variables.items()}
        | {one: {"value": {"work_pool": "transform", "job_variables": dict(job)}, "tags": mine} for one, job in jobs.items()},
        "limit": {one: {"limit": limit, "active": True} for one, limit in described.limits.items()},
        "pool": {one: _pool(one, said, name) | pool for one, said in described.pools.items()},
        "queue": dict(_queues(described.pools)),
        "block": bronze,
        "deployment": deployments,
        "automation": _automations(name, env, mine, alerts=bool(settings.alerts)),
    }  # fmt: skip


def _pool(name: str, pool: Pool, lake: str) -> dict[str, Any]:
    about = f"{name} of the lake {lake}"
    return {"description": about, "concurrency_limit": pool.concurrency_limit, "is_paused": False}


def _queues(pools: Mapping[str, Pool]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those that are said; `ingest` has `live` before all others, which daily loads are in."""
    for name, pool in pools.items():
        queues = dict(pool.queues)
        if name == "ingest":
            queues.setdefault("live", (1, None))
        for queue, (priority, limit) in queues.items():
            yield f"{name}/{queue}", {"priority": priority, "concurrency_limit": limit, "is_paused": False}


def _schedules(said: str, zone: str) -> Iterator[dict[str, Any]]:
    if said.startswith("P"):
        yield {
            "interval": Duration.parse(said).exact.total_seconds(),
            "anchor_date": "1970-01-05T00:15:00+00:00",
            "timezone": zone,
        }
    elif said:
        yield {"cron": said, "timezone": zone}


def _automations(lake: str, env: str, mine: list[str], *, alerts: bool) -> dict[str, dict[str, Any]]:
    """What Prefect does by itself when something happens, or does not."""

    def on(event: str, deployment: str, **parameters: Any) -> dict[str, Any]:
        return {
            "trigger": {
                "type": "event", "posture": "Reactive", "expect": [event], "match": {"prefect.resource.id": "assay.dataset.*", "assay.lake": lake, "assay.env": env},
                "for_each": ["prefect.resource.id"], "threshold": 1, "within": 0,
            },
            "actions": [{"type": "run-deployment", "deployment": deployment, "parameters": parameters or None}],
        }  # fmt: skip

    def silent(after: list[str], expect: list[str], within: int, state: str, name: str, message: str) -> dict[str, Any]:
        return {
            "trigger": {
                "type": "event", "posture": "Proactive", "after": sorted(after), "expect": sorted(expect), "within": within,
                "match": {"prefect.resource.id": "prefect.flow-run.*"}, "for_each": ["prefect.resource.id"], "threshold": 1,
            },
            "actions": [{"type": "change-flow-run-state", "state": state, "name": name, "message": message}],
        }  # fmt: skip

    beat = "prefect.flow-run.heartbeat"
    found = {
        "refine-what-landed": on(LANDED, "refine/landed", select=["{{ event.payload.dataset }}"])
        | {"description": "A live load's new landing wakes the refine of its dataset."},
        "build-what-changed": on(REFINED, "build/gold") | {"description": "New silver wakes the build; it releases only what changed."},
        "mark-the-dead": silent([beat], [beat, *_LAST], DEAD, "CRASHED", "Crashed", "no heartbeat for 95 s")
        | {"description": "A run whose process is gone is marked. To mark a live one is harmless: the ledger says what is done."},
        "start-the-stuck": silent(["prefect.flow-run.Pending"], ["prefect.flow-run.Running", *_LAST], STUCK, "SCHEDULED", "AwaitingRetry", "it was about to start for 300 s")
        | {"description": "A run that a worker took and never started is given to another."},
    }  # fmt: skip
    if alerts:
        found["alert-of-a-closed-gate"] = on(GATE, "alerts/lake") | {
            "description": "A gate that holds a batch is told at once."
        }
    return {one: {"enabled": True, "tags": mine} | said for one, said in found.items()}
