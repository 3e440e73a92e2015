"""Lineage as OpenLineage says it: what was landed, refined and built, as run events from the log, the evidence and the releases."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid5

from ulid import ULID

from assay.contract.model import Contract
from assay.errors import UsageError
from assay.lake import account, bronze, duck, evidence, recompute, release
from assay.lake.evidence import DataFile, Evidence
from assay.lake.release import Gold, Release
from assay.lake.silver import columns as silver_columns
from assay.lake.silver import name as silver_name
from assay.run import loop
from assay.run.columns import DIRECT, From, origins
from assay.spoken import TERMS

if TYPE_CHECKING:
    from assay.run.lake import Lake

SPEC = "https://openlineage.io/spec"
FACETS = {
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet",
    "dataQualityAssertions": "1-1-0/DataQualityAssertionsDatasetFacet",
    "dataQualityMetrics": "1-0-3/DataQualityMetricsInputDatasetFacet",
    "documentation": "1-1-0/DocumentationDatasetFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "lifecycleStateChange": "1-0-1/LifecycleStateChangeDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "parent": "1-2-0/ParentRunFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
}
"""Each facet that is given, with its version and name in the specification."""
RUNS = UUID("9d1f7a3c-5c0e-5b67-8a2e-0b3f4c1d2e6a")
"""Names the runs whose id is no ULID."""
LONGEST = timedelta(days=7)
"""A run that its id dates back further did not begin then."""
ASKED = 100
"""Addresses of one landing that are named."""

_Json = dict[str, Any]


@dataclass
class Job:
    """One step of one run: of a dataset ('' for gold), what came of it, and when that was known.

    `parts` are positions of entries, numbers of evidence, or of releases; without any, `state` is what the ledger says.
    """

    kind: str
    dataset: str
    run: str
    at: datetime
    parts: list[int] = field(default_factory=list)
    state: str = "done"
    error: str = ""

    @property
    def name(self) -> str:
        """What OpenLineage calls the job."""
        return f"{self.kind}.{self.dataset}" if self.dataset else self.kind


def events(lake: "Lake", since: str | None = None) -> Iterator[_Json]:
    """The run events of all landings, refines and builds that are known, in the order of their ends; a START before each.

    `since` is a time, or a run's id: what ended then or later. UsageError if it is neither, or a run that nobody knows.
    """
    for dataset in lake.contracts:
        loop.brought(lake, dataset)
    jobs = _jobs(lake)
    after = _after(since, jobs) if since is not None else None
    told = _Told(lake)
    for job in sorted(jobs, key=lambda one: (one.at, one.name)):
        if after is None or job.at >= after:
            yield from told.of(job)


def _after(since: str, jobs: Iterable[Job]) -> datetime:
    """The moment a run's first step ended, or that is said."""
    try:
        run = str(ULID.from_uuid(UUID(since))) if "-" in since else since.upper()
    except ValueError:
        run = since
    if ended := [job.at for job in jobs if job.run == run]:
        return min(ended)
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise UsageError(f"{since!r} is no run that is known here, and no time such as 2024-01-31T12:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _jobs(lake: "Lake") -> list[Job]:
    """What the ledger knows of; it is an index of the log, the evidence and the releases, which say the rest."""
    ledger = lake.target.ledger
    found: dict[tuple[str, str, str], Job] = {}

    def part(kind: str, dataset: str, run: str, at: datetime, number: int) -> None:
        job = found.setdefault((kind, dataset, run), Job(kind, dataset, run, at))
        job.parts.append(number)
        job.at = max(job.at, at)

    for dataset in lake.contracts:
        for fact in ledger.since("entry", dataset):
            if fact.body["kind"] == "landed":
                part("land", dataset, fact.body["run"], fact.at, int(fact.id))
        for fact in ledger.since("evidence", dataset):
            if fact.body["kind"] == "refined":
                part("refine", dataset, fact.body["run"], fact.at, int(fact.id))
    files = lake.target.files
    released = {fact.id: fact for fact in ledger.since("release", "")}
    for number in release.numbers(files):
        known = released.get(f"{number:08}")
        if known is None:  # made before the ledger was
            one = release.read(files, number)
            part("build", "", one.run, one.at, number)
        else:
            part("build", "", known.body["run"], known.at, number)
    for dataset in ("", *lake.contracts):
        for step in account.failing(ledger, dataset):
            kind = step["step"].split(" ")[0]
            key, at = (kind, dataset, step["run"]), datetime.fromisoformat(step["at"])
            if key in found and found[key].parts:
                if step["state"] == "started":  # it goes on, or was killed: what it put is not all
                    found[key].state = "started"
                continue  # what was put counts
            job = found.setdefault(key, Job(*key, at, [], step["state"]))
            job.at = max(job.at, at)
            job.error = "\n".join(dict.fromkeys([*filter(None, job.error.split("\n")), step["error"]]))
            job.state = "failed" if step["state"] == "failed" else job.state
    return list(found.values())


# ------------------------------------------------------------------ as OpenLineage says it


@dataclass
class _Told:
    """Events of jobs; what several of them need is read once."""

    lake: "Lake"
    contracts: dict[str, Contract] = field(default_factory=dict)
    lineage: dict[tuple[str, str], dict[str, dict[str, From]]] = field(default_factory=dict)

    @cached_property
    def producer(self) -> str:
        """Who says it."""
        return f"urn:assay:{version('assay')}"

    @cached_property
    def namespace(self) -> str:
        """Of all jobs and datasets of one environment of a lake."""
        settings = self.lake.target.settings
        return f"assay://{quote(settings.name, safe='')}/{settings.env}"

    def of(self, job: Job) -> Iterator[_Json]:
        """The START of a job, and how it ended, if that is known."""
        began, named = self._began(job), self._named(job)
        inputs, outputs = named
        if job.parts:
            began, inputs, outputs = {"land": self._landed, "refine": self._refined, "build": self._built}[job.kind](
                job
            )
        yield self._event("START", min(began, job.at), job, *named)
        if job.state != "started":
            yield self._event("FAIL" if job.state == "failed" else "COMPLETE", job.at, job, inputs, outputs)

    def _event(self, kind: str, at: datetime, job: Job, inputs: list[_Json], outputs: list[_Json]) -> _Json:
        run = _uuid(job.run)
        parent = {"run": {"runId": str(run)}, "job": {"namespace": self.namespace, "name": "run"}}
        facets = self._facets(parent=parent)
        if kind == "FAIL":
            facets |= self._facets(errorMessage={"message": job.error, "programmingLanguage": "PYTHON"})
        kinds = self._facets(jobType={"processingType": "BATCH", "integration": "ASSAY", "jobType": job.kind.upper()})
        return {
            "eventType": kind,
            "eventTime": at.astimezone(UTC).isoformat(),
            "run": {"runId": str(uuid5(run, job.name)), "facets": facets},
            "job": {"namespace": self.namespace, "name": job.name, "facets": kinds},
            "inputs": inputs,
            "outputs": outputs,
            "producer": self.producer,
            "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        }

    def _facets(self, **said: Mapping[str, Any] | None) -> _Json:
        """Facets by name, without those that say nothing."""
        out = {}
        for name, body in said.items():
            if body is not None:
                kind = FACETS[name]
                where = f"{SPEC}/facets/{kind}.json#/$defs/{kind.rpartition('/')[2]}"
                out[name] = {"_producer": self.producer, "_schemaURL": where, **body}
        return out

    def _dataset(self, name: str, namespace: str = "", **facets: Mapping[str, Any] | None) -> _Json:
        return {"namespace": namespace or self.namespace, "name": name, "facets": self._facets(**facets)}

    def _began(self, job: Job) -> datetime:
        """When the run of a job began, as its id says it if that can be; else when the job was over."""
        try:
            began = ULID.from_str(job.run).datetime
        except (ValueError, OverflowError):
            return job.at
        return began if job.at - LONGEST < began <= job.at else job.at

    def _named(self, job: Job) -> tuple[list[_Json], list[_Json]]:
        """The datasets that a job reads and writes whatever comes of it; of gold they are known when it is built."""
        log = [self._dataset(_bronze(job.dataset))]
        tables = [self._dataset(silver_name(job.dataset, past=past)) for past in (False, True)]
        return {"land": ([], log), "refine": (log, tables)}.get(job.kind, ([], []))

    # -------------------------------------------------------------- each step

    def _landed(self, job: Job) -> tuple[datetime, list[_Json], list[_Json]]:
        files = self.lake.target.files
        entries = [bronze.read(files, job.dataset, position) for position in job.parts]
        began = min((batch.asked_at for entry in entries for batch in entry.batches), default=job.at)
        asked: dict[tuple[str, str], None] = {}
        for entry in entries:
            urls = {entry.url: None} | {one.url: None for batch in entry.batches for one in batch.requests if one.url}
            asked |= {self._source(entry.source, url): None for url in urls if url}
        parts = [part for entry in entries for part in entry.parts]
        out = self._dataset(_bronze(job.dataset), version={"datasetVersion": str(max(job.parts))})
        rows = sum(batch.rows for entry in entries for batch in entry.batches)
        out["outputFacets"] = self._statistics(rows, [part.stored for part in parts])
        return began, [self._dataset(name, of) for of, name in list(asked)[:ASKED]], [out]

    def _source(self, source: str, url: str) -> tuple[str, str]:
        """Namespace and name of what was asked: an address without its query, or a file as the source calls it."""
        at = urlsplit(url)
        if at.scheme and at.netloc:
            return f"{at.scheme}://{at.netloc.rpartition('@')[2]}", at.path or "/"
        return self.namespace, f"{source}/{url}"

    def _refined(self, job: Job) -> tuple[datetime, list[_Json], list[_Json]]:
        files, dataset = self.lake.target.files, job.dataset
        done = [evidence.read(files, dataset, number)[0] for number in job.parts]
        last = done[-1]
        sha256 = next((sha256 for one in reversed(done) for _, sha256 in reversed(one.contracts)), None)
        contract = self._contract(sha256) if sha256 else None
        read = self._dataset(_bronze(dataset), version={"datasetVersion": str(last.position)})
        read["inputFacets"] = self._judged(done, contract)
        out = []
        for past in (False, True):
            changes = [one.past if past else one.current for one in done]
            files_ = [file for change in changes for file in change.add]
            state = "OVERWRITE" if any(change.everything for change in changes) else None
            state = "CREATE" if done[0].number == 1 else state
            columns = silver_columns(contract, versions=past) if contract else {}
            one = self._dataset(
                silver_name(dataset, past=past),
                version={"datasetVersion": str(last.number)},
                schema={"fields": [_field(name, *said) for name, said in columns.items()]} if contract else None,
                columnLineage=self._read_from(contract) if contract else None,
                documentation={"description": contract.description} if contract and contract.description else None,
                lifecycleStateChange={"lifecycleStateChange": state} if state else None,
            )
            one["outputFacets"] = self._written(files_)
            out.append(one)
        return self._began(job), [read], out

    def _contract(self, sha256: str) -> Contract:
        if sha256 not in self.contracts:
            self.contracts[sha256] = bronze.pinned(self.lake.target.files, sha256)
        return self.contracts[sha256]

    def _judged(self, done: Sequence[Evidence], contract: Contract | None) -> _Json:
        """What the gate saw: rows, and each rule that was or was not broken."""
        verdicts = [v for one in done for v in one.verdicts if v.state != "void"]
        terms = {term: sum(getattr(v, term) for v in verdicts) for term in (*TERMS, "withdrawn")}
        rows = sum(v.rows for v in verdicts)
        broken: Counter[str] = Counter()
        for v in verdicts:
            broken.update(v.reasons)
            broken.update(v.warnings)
        held = [v for v in verdicts if v.state == "held"]
        names = {column.name for column in contract.columns} if contract else set()
        rules = {rule.name: rule for rule in contract.rules} if contract else {}
        said: list[_Json] = [
            {"assertion": "conservation", "success": rows == sum(terms[t] for t in TERMS), "actual": str(rows), "params": terms},
            {"assertion": "gate", "success": not held, "actual": f"{len(held)} of {len(verdicts)} held", "severity": "error"},
        ]  # fmt: skip
        for name in dict.fromkeys((*rules, *broken)):
            rule = rules.get(name)
            one = {
                "assertion": "rule" if rule else "reason", "name": name, "success": not broken[name],
                "expected": "0", "actual": str(broken[name]), "severity": "warn" if rule and rule.severity == "warning" else "error",
            }  # fmt: skip
            if (column := name.partition(":")[0]) in names:
                one["column"] = column
            if rule and rule.expression:
                one |= {"content": rule.expression, "contentType": "expression"}
            said.append(one)
        return self._facets(
            dataQualityMetrics={"rowCount": rows, "columnMetrics": {}}, dataQualityAssertions={"assertions": said}
        )

    def _read_from(self, contract: Contract) -> _Json:
        """Of each column of silver the fields of the record where its value may be."""
        return {
            "fields": {
                column.name: {
                    "inputFields": [
                        {"namespace": self.namespace, "name": _bronze(contract.dataset), "field": ".".join(path)}
                        for path in column.origins
                    ]
                }
                for column in contract.columns
                if column.origins and not column.ordinal
            }
        }

    def _built(self, job: Job) -> tuple[datetime, list[_Json], list[_Json]]:
        made = [release.read(self.lake.target.files, number) for number in job.parts]
        found = made[-1]
        before = self._before(made[0])
        read: dict[str, None] = {}
        for gold in found.gold:
            steps, views = recompute.ancestors(found.models, f"gold.{gold.name}")
            read |= {table: None for view in views for table in _tables(found, view)}
            read |= {step.relation: None for step in steps if step.kind == "seed"}
        versions = {silver_name(s.dataset, past=past): str(s.evidence) for s in found.silver for past in (False, True)}
        inputs = [
            self._dataset(name, version={"datasetVersion": versions[name]} if name in versions else None)
            for name in read
        ]
        lineage = self._lineage(found)
        outputs = [self._gold(gold, found, before, lineage.get(f"gold.{gold.name}".lower(), {})) for gold in found.gold]
        now = {gold.name for gold in found.gold}
        for gone in (gold.name for gold in before.gold if gold.name not in now) if before else ():
            outputs.append(self._dataset(f"gold.{gone}", lifecycleStateChange={"lifecycleStateChange": "DROP"}))
        return self._began(job), inputs, outputs

    def _before(self, found: Release) -> Release | None:
        """The release before, if it is kept."""
        files = self.lake.target.files
        there = found.parent and files.exists(release.name_of(found.parent))
        return release.read(files, found.parent) if found.parent and there else None

    def _gold(self, gold: Gold, found: Release, before: Release | None, lineage: Mapping[str, From]) -> _Json:
        was = next((one for one in before.gold if one.name == gold.name), None) if before else None
        state = None
        if found.parent is None or (before and was is None):
            state = "CREATE"
        elif was and was.snapshot != gold.snapshot:
            state = "OVERWRITE"
        fields: _Json = {}
        for column in gold.columns:
            inputs = [
                one for of, how in lineage.get(column.name.lower(), {}).items() for one in self._input(found, of, how)
            ]
            if inputs:
                fields[column.name] = {"inputFields": inputs}
        one = self._dataset(
            f"gold.{gold.name}",
            version={"datasetVersion": str(gold.snapshot)},
            schema={"fields": [_field(c.name, c.type, c.description) for c in gold.columns]},
            columnLineage={"fields": fields} if fields else None,
            documentation={"description": gold.description} if gold.description else None,
            lifecycleStateChange={"lifecycleStateChange": state} if state else None,
        )
        if was is None or was.snapshot != gold.snapshot:
            one["outputFacets"] = self._written(gold.files)
        return one

    def _input(self, found: Release, of: tuple[str, str], how: Iterable[str]) -> Iterator[_Json]:
        """A column that another is computed from, and how."""
        relation, column = of
        direct = max((one for one in how if one in DIRECT), key=DIRECT.index, default=None)
        said = [{"type": "DIRECT", "subtype": direct}] if direct else []
        said += [{"type": "INDIRECT", "subtype": one} for one in sorted(how) if one not in DIRECT]
        zone, _, view = relation.partition(".")
        for table in _tables(found, view, column) if zone == "silver" else [relation]:
            yield {"namespace": self.namespace, "name": table, "field": column, "transformations": said}

    def _lineage(self, found: Release) -> dict[str, dict[str, From]]:
        """Of each model's columns what they are computed from; resolved once for releases of the same SQL over the same columns."""
        stored: dict[str, list[str]] = {}
        for one in found.silver:
            names = [column.name for column in one.columns]
            stored[f"silver.{one.dataset}"] = [name for name in names if name not in _ENDS]
            stored[f"silver.{one.dataset}_versions"] = names
        key = (found.dbt_hash, repr(stored))
        if key not in self.lineage:
            t = self.lake.target
            if found.seeds:
                with duck.open(t.limits, t.files.local(found.seeds, found.seeds_sha256), read_only=True) as con:
                    query = (
                        "SELECT schema_name || '.' || table_name, column_name FROM duckdb_columns() WHERE NOT internal"
                    )
                    for relation, name in con.execute(query).fetchall():
                        stored.setdefault(relation, []).append(name)
            self.lineage[key] = origins(found.models, stored)
        return self.lineage[key]

    def _statistics(self, rows: int, sizes: Sequence[int]) -> _Json:
        return self._facets(outputStatistics={"rowCount": rows, "size": sum(sizes), "fileCount": len(sizes)})

    def _written(self, files: Sequence[DataFile]) -> _Json:
        return self._statistics(sum(file.rows for file in files), [file.bytes for file in files])


_ENDS = ("known_to", "recorded_to")


def _tables(found: Release, view: str, column: str = "") -> list[str]:
    """The tables of silver that a view shows, or of which it shows a column."""
    datasets = {one.dataset.lower(): one.dataset for one in found.silver}
    if (name := datasets.get(view.lower())) is not None:
        return [silver_name(name)]
    name = datasets[view.lower().removesuffix("_versions")]
    return [silver_name(name, past=past) for past in (False, True) if past or column not in _ENDS]


def _bronze(dataset: str) -> str:
    return f"bronze.{dataset}"


def _field(name: str, kind: str, description: str) -> _Json:
    return {"name": name, "type": kind} | ({"description": description} if description else {})


def _uuid(run: str) -> UUID:
    """A run's id as a UUID: its own 128 bits."""
    try:
        return ULID.from_str(run).to_uuid()
    except ValueError:
        return uuid5(RUNS, run)


__all__ = ["FACETS", "Job", "events"]
