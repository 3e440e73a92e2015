"""Runs a lake's dbt project over silver views and says what it built; nothing else of the package knows dbt."""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import sqlglot
import yaml
from sqlglot import exp

from assay.build import dbt, elsewhere, shape, yml
from assay.errors import AssayError, BuildFailed, ContractError, SettingsError
from assay.lake import duck, recompute
from assay.lake.duck import ident
from assay.lake.files import clear_errors
from assay.lake.project import files_of, project_hash, universes_of
from assay.lake.release import Column, Gold, Input, Model
from assay.ports import Limits, Platform

_META = {"key", "clocks", "inputs"}
_COLUMN_META = {"unit", "classification"}
_CLOCKS = {"known_from", "captured_at"}
_KEPT = 16  # files: eight projects, each with what it declares and how dbt read it
_OF_NODE = re.compile(r"Error in [a-z ]+ (\S+) \((.+?)\)")
_PASSED = {"success", "pass", "warn", "no-op"}
_Ask = Callable[[str, int], tuple[list[str], list[list[str | None]]]]


@dataclass(frozen=True)
class SilverView:
    """A silver relation as dbt shall see it: `sql` gives its rows, `columns` maps names to descriptions."""

    name: str
    sql: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Built:
    """What a build left.

    Attributes:
        database: a DuckDB file with every relation.
        models: the steps it was computed by, ancestors first.
        gold: the tables to release, as the project describes them: without rows, and not published.
        warnings: what dbt's tests warned of, a line each.
        manifest: dbt's own, of the project as it ran in DuckDB.
    """

    database: Path
    models: tuple[Model, ...]
    gold: tuple[Gold, ...]
    dbt_hash: str
    tests: int
    warnings: tuple[str, ...]
    manifest: Mapping[str, Any]


def compute(
    project: Path,
    work: Path,
    views: Sequence[SilverView],
    limits: Limits,
    *,
    served: int | None = None,
    kept: Path | None = None,
    platform: Platform | None = None,
) -> Built:
    """Build and test the project in `work`, which is emptied first; the project itself is not written to.

    The models run in DuckDB, or in a `platform`: what they gave there is in DuckDB's file afterwards.

    BuildFailed names each model or test that failed, with rows that a test found, and says that release `served` stays;
    ContractError, what a gold model's yml lacks; SettingsError, that there is no room. What dbt read of the project is
    taken from `kept` and put there for the next build.
    """
    with clear_errors(work.parent):
        if wrong := _misspelt(project):
            raise ContractError(*wrong)
        dbt_hash = project_hash(project)  # before it is copied: an edit from here on is built once more
        shutil.rmtree(work, ignore_errors=True)
        database = prepare(project, work, views, limits)
        mark = _mark(project, views, limits)
        parsed = work / "target" / "partial_parse.msgpack"
        if (before := _recall(kept, f"{mark}.msgpack")) is not None:
            parsed.parent.mkdir(exist_ok=True)
            parsed.write_bytes(before)
        if platform is None:
            ran, failed = work, dbt.run(work, "build", "--threads", str(limits.threads))
        else:
            ran, failed = elsewhere.run(work, platform, limits)
    results = _json(ran / "target" / "run_results.json").get("results", [])
    manifest = _json(ran / "target" / "manifest.json")
    ask = _asking(work, limits) if platform is None or ran == work else platform.some
    if failed is not None or not manifest or any(one["status"] not in _PASSED for one in results):
        said = [failed or "", *(one["message"] or "" for one in results)]
        stays = f"the last release stays: {served}" if served else "nothing is released yet"
        if any(map(duck.full, said)):
            raise SettingsError(f"no room left below {work.parent}: free some and build again; {stays}")
        if platform and (told := next(filter(None, map(platform.meaning, said)), None)):
            raise told
        said = _complaints(results, manifest, ask) or _ended(failed or "")
        raise BuildFailed(f"gold was not built; {stays}.", *said, f"dbt's log: {ran / 'logs' / 'dbt.log'}")
    if parsed.exists() and (now := parsed.read_bytes()) != before and _mark(project, views, limits) == mark:
        _keep(kept, f"{mark}.msgpack", now)
    ours = manifest if platform is None else _json(work / "target" / "manifest.json")
    models, gold = _described(ours, views)
    if platform is not None:
        elsewhere.fetch(work, [one.name for one in gold], platform, limits)
    return Built(
        database,
        models,
        gold,
        dbt_hash,
        sum(one["unique_id"].startswith(("test.", "unit_test.")) for one in results)
        + (len(manifest.get("unit_tests") or ()) if platform else 0),
        tuple(f"{_named(one, manifest)}: {one['message']}" for one in results if one["status"] == "warn"),
        ours,
    )


def describe(
    project: Path, views: Sequence[SilverView], limits: Limits, *, kept: Path | None = None
) -> tuple[Gold, ...]:
    """The project's gold tables, ancestors first, without running any; fails as `compute` does.

    What is in `kept` of the same project, views and dbt is the answer: no dbt is started then.
    """
    _project(project)
    mark = _mark(project, views, limits)
    if (said := _recall(kept, f"{mark}.json")) is not None:
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(said, type=tuple[Gold, ...])
    wrong = _misspelt(project)
    if any(isinstance(one, yml.Unreadable) for one in wrong):
        raise ContractError(*wrong)
    with tempfile.TemporaryDirectory(prefix="assay-dbt-") as scratch:
        work = Path(scratch) / "project"
        with clear_errors(work.parent):
            database = prepare(project, work, views, limits)
            failed = _compiled(work, limits)
        if any(map(duck.full, failed)):
            raise SettingsError(f"no room left below {work.parent}: free some and check again")
        if failed and not (work / "target" / "manifest.json").exists():
            told = f"the dbt project cannot be read: {failed[0]}"
            raise ContractError(*wrong, f"BuildFailed: {told}") if wrong else BuildFailed(told)
        try:
            _, gold = _described(_json(work / "target" / "manifest.json"), views, database, limits)
        except ContractError as error:
            raise ContractError(*wrong, *failed, *error.args) from None
        if wrong or failed:
            raise ContractError(*wrong, *failed)
        parsed = work / "target" / "partial_parse.msgpack"
        if _mark(project, views, limits) == mark:  # nobody wrote to it meanwhile
            if parsed.exists():
                _keep(kept, f"{mark}.msgpack", parsed.read_bytes())
            _keep(kept, f"{mark}.json", msgspec.json.encode(gold))
    return gold


def _misspelt(project: Path) -> list[str]:
    """What is wrong in the project's yml files, known without dbt."""
    return yml.wrong(project, files_of(project), universes_of(project))


def _compiled(work: Path, limits: Limits) -> list[str]:
    """Let dbt put the seeds and write the SQL of all models; what it complains of.

    There is no manifest if it cannot read the project at all.
    """
    place, wrong = work / "target" / "manifest.json", []
    if any(work.rglob("*.csv")) and (failed := dbt.run(work, "seed")) is not None:
        results = _json(work / "target" / "run_results.json").get("results", [])
        if not (wrong := _complaints(results, _json(place), _asking(work, limits)) if place.exists() else []):
            return [dbt.sentence(failed)]
    failed = dbt.run(work, "compile")
    if failed is None or (place.exists() and _excused(failed, _json(place))):
        return wrong
    return [*wrong, dbt.sentence(failed)]


def _excused(failed: str, manifest: Mapping[str, Any]) -> bool:
    """Whether what dbt complains of may come from silver's having no rows yet, or is told in other words."""
    if "Found a cycle" in failed:
        return True
    named = _OF_NODE.search(failed)
    if named is None:
        return False
    return any(
        node["name"] == named[1] and node["original_file_path"] == named[2] and shape.asking(node, manifest["macros"])
        for node in manifest["nodes"].values()
    )


def _mark(project: Path, views: Sequence[SilverView], limits: Limits) -> str:
    """A hash of all that decides how dbt reads the project: its files, the views' shape, the programs, and this one."""
    seen = [(view.name, dict(view.columns)) for view in views]
    programs = [sys.version, *(metadata.version(name) for name in ("dbt-core", "dbt-duckdb", "duckdb"))]
    own = [
        hashlib.sha256(Path(one).read_bytes()).hexdigest()
        for one in (__file__, dbt.__file__, shape.__file__, yml.__file__)
    ]
    told = [project_hash(project), seen, programs, own, limits.memory, limits.threads]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _recall(kept: Path | None, name: str) -> bytes | None:
    """What was kept under a name, if it is what was put there."""
    if kept is None:
        return None
    try:
        sha256, _, data = (kept / name).read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if sha256.decode("ascii", "replace") == hashlib.sha256(data).hexdigest() else None


def _keep(kept: Path | None, name: str, data: bytes) -> None:
    """Keep it for the next time; a disk that takes no more hinders nobody. The oldest go."""
    if kept is None:
        return
    with suppress(OSError):
        kept.mkdir(parents=True, exist_ok=True)
        part = kept / f"{name}.{os.getpid()}"
        try:
            part.write_bytes(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
            part.replace(kept / name)
        finally:
            part.unlink(missing_ok=True)
        for old in sorted(kept.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-_KEPT]:
            old.unlink()


def _project(project: Path) -> None:
    if not (project / "dbt_project.yml").is_file():
        raise ContractError(f"{project}: holds no dbt_project.yml; a lake's gold is a dbt project")


def prepare(project: Path, work: Path, views: Sequence[SilverView], limits: Limits) -> Path:
    """Copy the project into `work`, with the sources, seeds and profile that dbt needs; gives the database it names."""
    _project(project)
    for path in files_of(project):
        copy = work / path.relative_to(project)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for path in universes_of(project):
        (work / "seeds").mkdir(exist_ok=True)
        shutil.copyfile(path, work / "seeds" / path.name)
    tables = [
        {
            "name": view.name,
            "columns": [{"name": name, "description": _literally(text)} for name, text in view.columns.items()],
        }
        for view in views
    ]
    source = {"name": "silver", "schema": "silver", "tables": tables}
    # Paths without `work`, whose name is another each time: dbt would read the whole project again. And none of it but
    # the zone in `settings`, which dbt sets on each cursor: DuckDB refuses to move what is spilled already.
    config = {
        "threads": limits.threads,
        "memory_limit": limits.memory,
        "temp_directory": "spill",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    target = {
        "type": "duckdb",
        "path": "lake.duckdb",
        "schema": "gold",
        "config_options": config,
        "settings": {"TimeZone": "UTC"},
    }
    profile = {_profile(project): {"target": "local", "outputs": {"local": target}}}
    (work / "models").mkdir(exist_ok=True)
    _write(work / "models" / "_assay_sources.yml", {"version": 2, "sources": [source]})
    _write(work / "profiles.yml", profile)
    # Not called after one of its schemas: DuckDB would take `gold.x` for a catalog's.
    database = work / "lake.duckdb"
    with duck.open(limits, database) as db:
        db.execute("CREATE SCHEMA silver")
        for view in views:
            db.execute(f"CREATE VIEW silver.{ident(view.name)} AS {view.sql}")
    return database


def _literally(text: str) -> str:
    """A description that dbt does not take for a template."""
    return re.sub(r"\{(?=[{%#])", "{ ", text)


def _profile(project: Path) -> str:
    try:
        read = yaml.safe_load((project / "dbt_project.yml").read_text(encoding="utf-8"))
        return str(read["profile"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ContractError("dbt_project.yml: it must say `profile: assay`") from error


def _write(path: Path, body: object) -> None:
    # JSON is YAML, and cannot be misread as anything else.
    path.write_text(json.dumps(body, indent=1), encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    """What dbt wrote there; nothing if it did not, or not to the end."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _named(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """The kind, name and file of what a result is about."""
    unique_id = result["unique_id"]
    node = manifest.get("nodes", {}).get(unique_id) or manifest.get("unit_tests", {}).get(unique_id) or {}
    kind = unique_id.partition(".")[0].replace("_", " ")
    return f"{kind} {node.get('name', unique_id)} ({node.get('original_file_path', 'unknown file')})"


def _complaints(results: Iterable[Mapping[str, Any]], manifest: Mapping[str, Any], ask: _Ask) -> list[str]:
    """What failed, a line each, with rows that a test found."""
    bad = [one for one in results if one["status"] not in {*_PASSED, "skipped"}]
    return [
        f"{_named(one, manifest)}: {_after(_named(one, manifest), dbt.sentence(one['message'] or one['status']))}"
        f"{_rows(one, manifest, ask)}"
        for one in bad
    ]


def _after(named: str, said: str) -> str:
    """What dbt said of a node, without what names it."""
    kind_name, _, file = named.rstrip(")").rpartition(" (")
    return said.removeprefix(f"{file}: {kind_name}: ")


def _ended(printed: str) -> list[str]:
    return [dbt.sentence(printed) or "dbt ended without a word"]


def _rows(result: Mapping[str, Any], manifest: Mapping[str, Any], ask: _Ask) -> str:
    """The first rows that a failed test found, in a line; nothing if it was no such test, or they cannot be read."""
    node = manifest.get("nodes", {}).get(result["unique_id"]) or {}
    sql = result.get("compiled_code") or node.get("compiled_code")
    if node.get("resource_type") != "test" or result["status"] != "fail" or not sql:
        return ""
    if (node.get("test_metadata") or {}).get("name") == "not_null" and node.get("column_name"):
        # Its own rows are the nulls alone; whose they are, the model's key says.
        model = manifest["nodes"].get(node.get("attached_node")) or {}
        chosen = ", ".join(map(ident, [*(_meta(model).get("key") or ()), node["column_name"]])) if model else "*"
        sql = re.sub(r"^\s*select\s+\S+\s+from\b", lambda _: f"select {chosen} from", sql, count=1, flags=re.IGNORECASE)
    try:
        names, rows = ask(sql.strip().rstrip(";"), 3)
    except (duckdb.Error, AssayError):
        return ""
    shown = (
        ", ".join(f"{k}={'NULL' if v is None else v}" for k, v in zip(names, row, strict=True))[:300] for row in rows
    )
    return f" | for example {' | '.join(' '.join(one.split()) for one in shown)}" if rows else ""


def _asking(work: Path, limits: Limits) -> _Ask:
    """Asks the build's DuckDB file for the first rows of a query, as texts."""

    def ask(sql: str, most: int) -> tuple[list[str], list[list[str | None]]]:
        with duck.open(limits, work / "lake.duckdb", read_only=True) as db:
            found = db.execute(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM (\n{sql}\n) LIMIT {most}")
            return [one[0] for one in found.description or ()], [list(row) for row in found.fetchall()]

    return ask


def _described(
    manifest: Mapping[str, Any], views: Sequence[SilverView], empty: Path | None = None, limits: Limits | None = None
) -> tuple[tuple[Model, ...], tuple[Gold, ...]]:
    """Every relation dbt makes as a step, ancestors first; and those in schema gold as tables to release.

    What they give is compared with what they promise where there is an `empty` database to find it in.
    """
    nodes = {k: n for k, n in manifest["nodes"].items() if n["resource_type"] in ("model", "seed")}
    relations = {k: f"{n['schema']}.{n['alias']}" for k, n in nodes.items()}
    known = {f"silver.{view.name}": set(view.columns) for view in views}
    models: list[Model] = []
    released: list[Gold] = []
    wrong: list[str] = []
    waiting = sorted(nodes, key=lambda k: relations[k])
    while waiting:
        ready = next((k for k in waiting if not _needs(nodes[k]) & set(waiting)), None)
        if ready is None:
            while after := set(waiting) - {need for k in waiting for need in _needs(nodes[k])}:
                waiting = [k for k in waiting if k not in after]  # it reads the circle, and is not in it
            files = ", ".join(nodes[k]["original_file_path"] for k in waiting)
            wrong.append(f"models read each other in a circle: one of {files} must read something else")
            break
        node, sql = nodes[ready], ""
        if node.get("language") == "python":
            what = "a model in Python, whose numbers nobody can explain; write it in SQL"
            wrong.append(f"{node['original_file_path']}: {node['name']}: {what}")
        else:
            try:
                sql = _plain(node.get("compiled_code") or "", node["original_file_path"])
            except ContractError as error:
                wrong += error.args
        models.append(Model(relations[ready], node["resource_type"], sql))
        if node["schema"] == "gold" and node["resource_type"] == "model":
            gold = _gold(node)
            wrong += _lacks(gold, node, known)
            released.append(gold)
        waiting.remove(ready)
    if empty and limits and not waiting:
        wrong += _given(manifest, models, released, shape.shapes(empty, models, manifest, limits))
    if wrong:
        raise ContractError(*wrong)
    return tuple(models), tuple(released)


def _given(
    manifest: Mapping[str, Any],
    models: Sequence[Model],
    released: Sequence[Gold],
    found: Mapping[str, shape.Shape | str],
) -> Iterator[str]:
    """Where the SQL is no SQL or gives other columns than the yml says; last of all, what the yml lacks, to paste."""
    files = {f"{n['schema']}.{n['alias']}": n for n in manifest["nodes"].values() if n["resource_type"] == "model"}
    lacking: list[str] = []
    for relation, given in found.items():
        if isinstance(given, str):
            yield f"{files[relation]['original_file_path']}: {files[relation]['name']}: its SQL cannot run: {given}"
    for gold in released:
        relation, node = f"gold.{gold.name}", files[f"gold.{gold.name}"]
        columns = found.get(relation)
        if not isinstance(columns, dict):
            continue
        for name in shape.absent(gold, columns):
            yield f"{_file(node)}: {gold.name}: it describes column {name}, which the SQL does not give"
        if missing := shape.undescribed(gold, columns):
            if gold.columns:
                to_paste = f"# {_file(node)}: {node['name']}: add to its columns\n{shape.described(missing)}"
            else:
                _, read = recompute.ancestors(models, relation)
                file = Path(node["original_file_path"]).with_suffix(".yml")
                to_paste = f"# {file}: to paste and fill in\n{shape.skeleton(node['name'], missing, read)}"
            yield f"{_file(node)}: {gold.name}: no yml describes {', '.join(missing)}; what it lacks stands below"
            lacking.append(to_paste.rstrip())
    yield from (line for one in lacking for line in one.split("\n"))


def _file(node: Mapping[str, Any]) -> str:
    """The yml that describes a model, or its SQL where none does."""
    return str((node.get("patch_path") or "").partition("://")[2] or node["original_file_path"])


def _gold(node: Mapping[str, Any]) -> Gold:
    meta = _meta(node)
    return Gold(
        name=node["alias"], snapshot=0, rows=0, serving="", columns=tuple(_column(one) for one in node["columns"].values()),
        key=tuple(meta.get("key") or ()), clocks=dict(meta.get("clocks") or {}),
        inputs=tuple(Input(str(one.get("table")), str(one.get("where"))) for one in meta.get("inputs") or ()),
        description=node["description"].strip(),
    )  # fmt: skip


def _needs(node: Mapping[str, Any]) -> set[str]:
    return set(node["depends_on"].get("nodes", ()))


def _column(column: Mapping[str, Any]) -> Column:
    """A column as its yml promises it; its type is DuckDB's only where the author wrote it so."""
    meta = _meta(column)
    kind = (column.get("data_type") or "").upper()
    return Column(
        column["name"], kind, column["description"].strip(), meta.get("unit", ""), meta.get("classification", "")
    )


def _meta(part: Mapping[str, Any]) -> dict[str, Any]:
    """`meta.assay` of a model or column, wherever its author may write it."""
    meta = (part.get("config") or {}).get("meta") or part.get("meta") or {}
    found = meta.get("assay") or {}
    return found if isinstance(found, dict) else {"assay": found}


def _lacks(model: Gold, node: Mapping[str, Any], known: Mapping[str, set[str]]) -> list[str]:
    """All that a gold model does not say of what is served with it, each with the file and the remedy."""
    file = _file(node)
    names = {column.name for column in model.columns}
    wrong: list[str] = []

    def need(good: bool, message: str) -> None:
        if not good:
            wrong.append(f"{file}: {model.name}: {message}")

    for extra in _meta(node).keys() - _META:
        need(False, f"meta.assay knows {', '.join(sorted(_META))}, not {extra!r}")
    need(node["config"]["contract"]["enforced"], "set `contract: {enforced: true}`")
    need(bool(model.key), "name the columns of its key in meta.assay.key")
    for name in (*model.key, *model.clocks.values()):
        need(name in names, f"meta.assay names {name!r}, which is no column; there are {', '.join(sorted(names))}")
    for clock in model.clocks:
        need(clock in _CLOCKS, f"meta.assay.clocks knows {' and '.join(sorted(_CLOCKS))}, not {clock!r}")
    need(bool(model.description), "describe it")
    for column in model.columns:
        need(bool(column.description), f"describe column {column.name}")
        need(bool(column.classification), f"column {column.name} lacks meta.assay.classification, say `internal`")
        for extra in _meta(node["columns"][column.name]).keys() - _COLUMN_META:
            need(False, f"column {column.name}: meta.assay knows unit and classification, not {extra!r}")
    need(bool(model.inputs), "say in meta.assay.inputs which silver rows a row is computed from")
    for one in model.inputs:
        need(one.table in known, f"input {one.table!r} is no silver view; there are {', '.join(sorted(known))}")
        for name in _strangers(one, names, known[one.table]) if one.table in known else ():
            need(False, f"input {one.table}: {name}")
    return wrong


def _strangers(one: Input, row: set[str], table: set[str]) -> Iterator[str]:
    """What is wrong with an input's predicate."""
    try:
        tree = sqlglot.parse_one(one.where, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        yield f"{one.where!r} is no predicate: {_said(error)}"
        return
    for column in tree.find_all(exp.Column):
        if column.table.lower() == "row" and column.name not in row:
            yield f"row.{column.name} is no column of the model"
        elif not column.table and not column.find_ancestor(exp.Select) and column.name not in table:
            yield f"{column.name} is no column of the table"


def _said(error: sqlglot.errors.SqlglotError) -> str:
    """The cause, without the query that is quoted in colours."""
    return str(error).split("\n")[0].rstrip(" .")


def _plain(code: str, file: str) -> str:
    """The SELECT without the database in its relations' names."""
    if not code:
        return ""
    try:
        tree = sqlglot.parse_one(code, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise ContractError(
            f"{file}: SQL that only dbt's database understands: {_said(error)}; write it portably"
        ) from error
    for table in tree.find_all(exp.Table):
        table.set("catalog", None)
    return tree.sql(dialect="duckdb", pretty=True)
