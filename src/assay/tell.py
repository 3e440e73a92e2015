"""What the command line prints: results as lines. Nothing else prints, so that no text of others steers a terminal."""

import csv
import json
import logging
import math
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from assay.clock import now
from assay.spoken import each, printable, some, terms, volume

if TYPE_CHECKING:
    from assay.contract.calendars import Calendar
    from assay.contract.model import Contract
    from assay.errors import AssayError
    from assay.lake.account import Paused
    from assay.lake.keys import Known
    from assay.plan import Step
    from assay.refine import Refined
    from assay.run.alerts import Alerts
    from assay.run.erase import Found
    from assay.run.upgrade import Upgraded
    from assay.serve.fenced import Answer

NOTHING = (
    "nothing is missing: what was due is landed (`assay land DATASET --again` asks for it anew), judged and released"
)


class Logged(logging.Formatter):
    """A record of a log as one line; a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback."""
        record.message = record.getMessage()
        said = printable(self.formatMessage(record))
        return f"{said}\n{_lines(self.formatException(record.exc_info))}" if record.exc_info else said


def out(line: str) -> None:
    """A line to standard output."""
    click.echo(printable(line))


def err(*lines: str) -> None:
    """Lines to standard error; where nothing can be said, the exit code still says it."""
    with suppress(OSError):
        for line in lines:
            click.echo(printable(line), err=True)


def error(one: "AssayError", times: int = 1) -> None:
    """An error's lines, begun by its name, to standard error."""
    first, *more = one.args or ("",)
    lines = [f"{type(one).__name__}: {first}", *more]
    lines[-1] += f" ({times} times)" if times > 1 else ""
    err(*lines)


def refused(one: click.ClickException) -> None:
    """What is wrong with how a command was called, to standard error."""
    if isinstance(one, click.exceptions.NoArgsIsHelpError):
        err(*one.format_message().split("\n"))
        return
    if isinstance(one, click.UsageError) and one.ctx:
        err(*one.ctx.get_usage().split("\n"), f"Try '{one.ctx.command_path} --help' for help.", "")
    err(f"Error: {one.format_message()}")


def failed(kind: type[BaseException], what: BaseException, where: TracebackType | None) -> None:
    """A failure that nobody has a sentence for: its traceback, to standard error."""
    err(*_lines("".join(traceback.format_exception(kind, what, where)).rstrip("\n")).split("\n"))


def data(found: Any, *, to_err: bool = False, indent: int | None = 1) -> None:
    """JSON, in ASCII without control characters."""
    click.echo(_json(found, indent), err=to_err)


def lines_to(path: Path, found: Iterable[Any]) -> int:
    """JSON objects into a file, one a line; how many. It is there whole, or as it was before."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    count = 0
    try:
        with part.open("w", encoding="ascii") as file:
            for one in found:
                file.write(f"{_json(one)}\n")
                count += 1
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _json(found: Any, indent: int | None = None) -> str:
    return json.dumps(found, default=str, indent=indent).replace("\x7f", "\\u007f")


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def step(one: "Step") -> dict[str, Any]:
    """A step as JSON: its id, why, and the step itself as a worker takes it."""
    from assay.plan import to_json

    return {"step": one.id, "why": one.why, "json": json.loads(to_json(one))}


def plan(steps: "Sequence[Step]", cost: Mapping[str, Any], paused: "Sequence[Paused]" = ()) -> list[str]:
    """A plan with what it costs, and what is not asked for by decision."""
    unasked = [f"{one.dataset} is {one.told}" for one in paused]
    if not steps:
        return [*unasked, NOTHING]
    size = f"about {volume(cost['bytes'])}" if cost["bytes"] is not None else "size unknown before the first landing"
    money = "".join(f", {amount.normalize():f} {currency}" for currency, amount in sorted(cost["money"].items()))
    quotas = [one["told"] for one in cost["sources"].values() if one["told"]]
    return [
        *unasked,
        *(f"{one.id}   ({one.why})" for one in steps),
        *quotas,
        f"{some(len(steps), 'step')}: {some(cost['calls'], 'call')} at least, {cost['minutes']:.1f} minutes at the permitted rate, {size}{money}",
    ]


def key(one: "Known") -> str:
    """An API key in a line: its id, state and name, what it reads, until when, who made and who revoked it."""
    its = one.key
    reads = "everything" if its.datasets is None else f"{', '.join(its.datasets)} and gold made of these alone"
    until = f"until {its.expires.isoformat(timespec='minutes')}" if its.expires else "without an end"
    gone = f", revoked {one.revoked.at.isoformat(timespec='seconds')} by {one.revoked.who}" if one.revoked else ""
    made = f"made {its.at.isoformat(timespec='seconds')} by {its.who}"
    return f"{one.id} {one.state(now())}: {its.name}, reads {reads}, {until}; {made}{gone}"


def key_data(one: "Known") -> dict[str, Any]:
    """An API key as JSON; `datasets` is null where it reads everything."""
    its, gone = one.key, one.revoked
    return {
        "id": one.id, "name": its.name, "state": one.state(now()), "datasets": its.datasets and list(its.datasets), "who": its.who,
        "at": its.at.isoformat(), "expires": its.expires.isoformat() if its.expires else None,
        "revoked": {"who": gone.who, "at": gone.at.isoformat()} if gone else None,
    }  # fmt: skip


def held(done: "Refined") -> "list[AssayError]":
    """The errors that held batches, and hollow landings, are for whoever asked for the refine."""
    from assay.errors import GateClosed

    return [
        *(
            GateClosed(f"batch {v.position}.{v.n} is held: {'; '.join(v.why)}; nothing of it is readable")
            for v in done.held
        ),
        *map(GateClosed, done.hollow),
    ]


def erased(found: "Found", *, dry: bool) -> list[str]:
    """What an erasure took, or would take."""
    lines = [f"{'would erase' if dry else 'erased'} {found.told}"]
    if found.others:
        lines.append(
            f"rows of others are other ones by it: {'; '.join(found.others[:10])}"
            + (" …" if len(found.others) > 10 else "")
        )
    return lines


def searched(left: Sequence[str] | None) -> list[str]:
    """In which files a text stands; None where it was not searched for."""
    if left is None:
        return [
            "`assay verify erased VALUE` says whether a text stands in any file still, if it is long enough to tell"
        ]
    return list(left) or ["no file of the lake's data holds it"]


def left(names: Sequence[str]) -> "list[AssayError]":
    """What is wrong with that."""
    from assay.errors import AssayError

    return [AssayError(f"it stands in {some(len(names), 'file')} of the lake's data still, or may")] if names else []


def status(found: Mapping[str, Any]) -> list[str]:
    """What is there, dataset by dataset, and the last release."""
    lines = []
    for name, one in found["datasets"].items():
        newest = f"newest {one['captured_at'] or 'never'} ({', '.join(one['origins'])})"
        lines.append(
            f"{name}: {some(one['batches'], 'batch')}, {terms(one, one['captured'] + one['waiting'])}; {newest}"
        )
        if one["paused"]:
            lines.append(f"  {one['paused']['told']}")
        lines += [f"  {why['told']}" for why in one["held_batches"].values()]
        if one["held_batches"]:
            lines.append(
                f"  see the rows: assay quarantine list {name} · mended at the source: assay land {name} --again, assay apply · "
                f"contract changed: assay apply {name}+ --regate"
            )
        if one["replaced"]:
            lines.append(f"  {one['replaced']} of the held rows were landed again since, and passed")
        for batch, what in one["pending_batches"].items():
            lines.append(f"  {what['told']}: assay decide withdraw {name} {batch} --why …")
        if one["withdrawn"]:
            lines.append(
                f"  {some(one['withdrawn'], 'key')} withdrawn: silver.{name}_versions has what was said of them, recorded_to "
                "until when it held"
            )
        if one["shrank"]:
            lines.append(f"  {one['shrank']['told']}")
        if one["by_hand"]:
            lines.append(
                f"  {some(one['by_hand'], 'captured row')} written by hand; `assay explain` says by whom, when and why"
            )
        if one["lost"]:
            lines.append(
                f"  {some(one['lost'], 'batch')} declared lost: nothing of that is readable, its days are asked again"
            )
        if one["unjudged"]:
            lines.append(f"  not judged yet: {some(one['unjudged'], 'batch')}; `assay apply` does")
        lines += _failing(one["failing"])
        lines += [f"  late: {late}" for late in one["late"]]
        lines += [f"  {drift['told']}" for drift in one["drift"]]
        if one["warnings"]:
            lines.append(f"  warned of in all answers so far: {each(one['warnings'])}")
        if one["holes"]:
            lines.append(f"  {one['holes']['told']}")
        if one["changed"]:
            lines.append(
                f"  {some(one['changed'], 'row')} changed, though mutability: append says that none does; "
                f'`assay sql "select * from silver.{name}_versions where known_to is not null"` shows the former ones'
            )
        if one["clock"]:
            lines.append(f"  {one['clock']}")
    if found["failing"]:
        lines += ["gold:", *_failing(found["failing"])]
    lines += found["ending"]
    last = found["release"]
    lines.append(
        f"release {last['number']} of {last['at']}: {', '.join(last['gold'])}" if last else "nothing is released yet"
    )
    return [*lines, *(f"alert {line}" for line in alerts(found["alerts"]))]


def _failing(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    return [line for step in steps for line in f"  {step['told']}".split("\n")]  # an error may have several


def alerts(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What fires: the policy, what of it, since when if that is known."""
    return [
        f"{one['alert']}: {one['dataset'] or 'lake'} {one['when']}"
        + (f" since {one['since'][:19]}Z" if one["since"] else "")
        for one in found
    ]


def alerts_told(found: "Alerts", *, policies: int) -> list[str]:
    """What fires and why, and what webhooks were told."""
    lines = []
    for one in (one.data for one in found.firing):
        lines += [*alerts([one]), *(f"  {line}" for line in one["told"].split("\n"))]
    if not lines:
        lines = ["nothing fires"] if policies else ["assay.toml has no [alert.NAME], so nothing fires"]
    return [
        *lines,
        *(f"told: {one['alert']} {one['dataset'] or 'lake'} {one['when']} {one['state']}" for one in found.sent),
    ]


def contract(found: "Contract") -> list[str]:
    """A contract: its columns and rules as they are enforced, and what else it says."""
    key = ", ".join(found.key)
    lines = [f"{found.dataset} {found.version}: {found.title}", f"  key: {key}", f"  source: {found.source}"]
    for column in found.columns:
        words = (
            column.type,
            "required" if column.required else "",
            column.unit,
            column.classification,
            column.description,
        )
        lines.append(f"  column {column.name}: {', '.join(word for word in words if word)}")
    for rule in found.rules:
        most = (
            ""
            if rule.at_most is None
            else f", {'below' if rule.below else 'at most'} {rule.at_most:g} {rule.unit} of a batch"
        )
        lines.append(f"  rule {rule.name}: {rule.expression} ({rule.severity}{most})")
    lines += [f"  unique {one.name}: {', '.join(one.columns)}, within a batch" for one in found.unique]
    since = f"from the end of a session of {found.days} to a landing" if found.days else "since the newest landing"
    lines += [f"  {one.property}: at most {one.lag} {since}" for one in found.promises]
    if found.calendar:
        lines.append(f"  calendar {found.calendar.name}: {calendar(found.calendar)}")
    if found.mutability:
        lines.append(f"  mutability: {found.mutability}")
    return [*lines, *(f"  {path}: {text}" for path, text in found.shown)]


def calendar(found: "Calendar") -> str:
    """What a calendar says, in a line."""
    closed, early = some(len(found.closed), "weekday"), some(len(found.early), "half day")
    return f"{found.start}..{found.end}, {closed} without a session, {early}"


def rejected(row: Mapping[str, Any]) -> str:
    """A rejected row in a line."""
    where = f"{row['dataset']} {row['batch']}{' (held)' if row['held'] else ''} #{row['seq']}"
    said = ""
    if current := row["current"]:
        what = "mended since by" if current["newer"] else "current is the older row of"
        said = f" ({what} {current['batch']})"
    return f"{where} {', '.join(row['reasons'])}{said}: {row['line'][:200]}"


def explanation(found: Mapping[str, Any]) -> list[str]:
    """The way back of a value."""
    again = found["recomputed"]
    lines = [
        f"{found['table']} {', '.join(f'{k}={v}' for k, v in found['key'].items())}",
        f"  {found['column']} = {found['value']} {found['unit']}   release {found['release']}, origin {', '.join(found['origin'])}",
        f"  {'recomputed from its input rows alone' if found['model'] else 'its line refined again'}: {again['value']} ({'equal' if again['equal'] else 'DIFFERENT'})",
        *(f"  from {i['table']}: {i['rows']} rows where {i['where']}" for i in found["inputs"]),
        *(_gone(found["gone"]) if found["gone"] else []),
    ]
    for one in found["records"]:
        asked, decided = one["request"], one["decision"]
        lines += [
            f"  {one['dataset']} {', '.join(f'{k}={v}' for k, v in one['key'].items())}  known {one['known_from']} ({one['known_basis']}"
            f"{', backfilled' if one['backfilled'] else ''})",
            f"    {one['file']}:{one['line']}  {one['record']}",
            *([f"    {found['column']} came from {one['tokens'][found['column']]}"] if _has_token(found, one) else []),
            *([f"    {_decided(decided)}"] if decided else []),
            *([f"    {_request(asked)}"] if asked else []),
            f"    {_rules(one)}",
            *([f"    {newer(one['newer'])}"] if one["newer"] else []),
        ]
    if found["not_listed"]:
        lines.append(f"  … and {found['not_listed']} more input rows")
    return lines


_BY_HAND = {"upsert": "written by hand by", "delete": "removed by hand by"}


def _decided(one: Mapping[str, Any]) -> str:
    """Who decided about a row, when and why."""
    if one["kind"] in _BY_HAND:
        return f"{_BY_HAND[one['kind']]} {one['who']} at {one['at']}: {one['why']}"
    return f"decided by {one['who']}: {one['kind']}, {one['why']}"


def newer(one: Mapping[str, Any]) -> str:
    """That a later record of a row did not become one, and where it lies."""
    where = "in a held batch" if one["held"] else "in quarantine"
    return f"a newer record of this row lies {where}: {one['batch']}, {', '.join(one['reasons'])}, captured {one['captured_at']}"


def _gone(one: Mapping[str, Any]) -> list[str]:
    """Since when a key is not current any more, and what took it away."""
    decided, since = one["decision"], f"  gone since {one['recorded_to']}"
    if one["why"] == "deleted":
        return [f"{since}: deleted by {decided['who']}: {decided['why']}"]
    scope = ", ".join(f"{k} {low} to {high}" for k, (low, high) in one["scope"].items())
    by = f", by the decision of {decided['who']}: {decided['kind']}, {decided['why']}" if decided else ""
    return [
        f"{since}: absent from {one['batch']} of {one['captured_at']}, which is complete for {scope or 'all there is'}{by}",
        *(f"    {_request(asked)}" for asked in one["requests"]),
    ]


def _request(asked: Mapping[str, Any]) -> str:
    return f"{asked['url']} {asked['params']} at {asked['at']} → {asked['status']}, {asked['bytes']} bytes"


def _has_token(found: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether the value is one of silver's, that stands in the record itself."""
    return not found["model"] and record["tokens"].get(found["column"]) is not None


def _rules(one: Mapping[str, Any]) -> str:
    """Which rules held for a record, and whether its line still refines to the row."""
    words = {True: "holds", False: "BROKEN", None: "not decided"}
    rules = [
        f"{r['name']} {words[r['passed']]}" + (" (warning)" if r["severity"] == "warning" else "") for r in one["rules"]
    ]
    again = {True: "refines to this row", False: "DOES NOT REFINE TO THIS ROW", None: "was not refined again"}
    return f"the line {again[one['record_refines_to_row']]}; {', '.join(rules) or 'no rules'}; contract {one['contract_sha256'][:12]}"


def difference(found: Mapping[str, Any]) -> list[str]:
    """What differs between two releases, from the models to the rows."""
    old, new = (f"{found[one]['env']}:{found[one]['number']} of {found[one]['at']}" for one in ("old", "new"))
    lines = [f"release {old} → {new}", *_computed(found["dbt"])]
    for name, one in found["silver"].items():
        was, now = one["position"]
        read = {"same": f"the same, read up to {now}", "added": f"added, read up to {now}", "removed": "removed"}
        if one["state"] in read:
            lines.append(f"silver.{name}: {read[one['state']]}")
            continue
        contract = "" if one["contract"][0] == one["contract"][1] else "; by another contract"
        lines.append(f"silver.{name}: read up to {was} → {now}, {_pair(one['rows'])} rows{contract}")
    for name, one in found["gold"].items():
        lines += _table(f"gold.{name}", one)
    return lines


def _computed(dbt: Mapping[str, Any]) -> list[str]:
    if not dbt["changed"]:
        return ["dbt project: the same"]
    said = [f"SQL of {', '.join(dbt['models'])}"] if dbt["models"] else []
    return [f"dbt project: changed; {', '.join([*said, *(['seeds'] if dbt['seeds'] else [])]) or 'no SQL and no seed'}"]


def _table(spoken: str, one: Mapping[str, Any]) -> list[str]:
    if one["state"] != "changed":
        rows = one["rows"][0 if one["state"] == "removed" else 1]
        return [f"{spoken}: {'the same' if one['state'] == 'same' else one['state']}, {some(rows, 'row')}"]
    columns = one["columns"]
    lines = [
        *(f"  column {name} added: {kind}" for name, kind in columns["added"].items()),
        *(f"  column {name} removed: {kind}" for name, kind in columns["removed"].items()),
        *(
            f"  column {name}: {', '.join(f'{what} {_pair(pair)}' for what, pair in said.items())}"
            for name, said in columns["changed"].items()
        ),
    ]
    if one["added"] is None:
        keys = " → ".join(f"({', '.join(key)})" for key in one["key"])
        return [f"{spoken}: {_pair(one['rows'])} rows, not compared: its key changed, {keys}", *lines]
    in_columns = ", ".join(f"{name} {n}" for name, n in one["changed_columns"].items())
    listed = one["listed"]
    lines += [f"  + {_named(row)}" for row in listed["added"]]
    lines += [f"  - {_named(row)}" for row in listed["removed"]]
    lines += [
        f"  ~ {_named(row['key'])}: {', '.join(f'{name} {_pair(pair)}' for name, pair in row['columns'].items())}"
        for row in listed["changed"]
    ]
    more = [f"{one[kind] - len(rows)} {kind}" for kind, rows in listed.items() if one[kind] > len(rows)]
    lines += [f"  … and {', '.join(more)} more; --limit lists them"] if more else []
    counts = ", ".join(f"{one[kind]} {kind}" for kind in ("added", "removed", "changed"))
    return [f"{spoken}: {_pair(one['rows'])} rows, {counts}{f' ({in_columns})' if in_columns else ''}", *lines]


def _pair(pair: Sequence[Any]) -> str:
    return " → ".join(map(_short, pair))


def _named(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in row.items())


def _short(value: Any) -> str:
    said = "null" if value is None else str(value) or '""'
    return said if len(said) <= 80 else f"{said[:79]}…"


def upkeep(found: Mapping[str, Any], *, dry: bool) -> list[str]:
    """What upkeep did, or would do."""
    lines = [f"{what}: {n}" for what, n in found.items() if n]
    if not lines:
        return ["there is nothing to do"]
    return [*lines, "nothing was changed; --apply does it"] if dry else lines


def upgraded(found: "Upgraded", *, dry: bool) -> list[str]:
    """What an upgrade did, or would do."""
    if not found.steps:
        return [f"there is nothing to do: the lake has format {found.now}"]
    if not dry:
        return [f"upgraded from format {found.before} to {found.now}"]
    steps = [f"format {number} to {number + 1}: {step}" for number, step in enumerate(found.steps, found.before)]
    return [*steps, "nothing was changed; without --dry-run it is done"]


def rows(found: "Answer", form: str) -> None:
    """Rows as a table, CSV or JSON, to standard output."""
    if form == "json":
        from assay.errors import UsageError

        twice = [c for c in found.columns if found.columns.count(c) > 1]
        if twice:
            raise UsageError(f"two columns are called {twice[0]}; name one with AS")
        before = "["
        for row in found.rows:
            one = dict(zip(found.columns, map(_finite, row), strict=True))
            click.echo(before + _json(one), nl=False)
            before = ", "
        click.echo("]" if before == ", " else "[]")
    elif form == "csv":
        # A file is given what the cells hold, a terminal what it can show.
        spelt = _cell if sys.stdout.isatty() else _spelt
        writer = csv.writer(sys.stdout, lineterminator="\n")
        for row in chain([found.columns], found.rows):
            writer.writerow(map(spelt, row))
    else:
        widths = [len(_cell(c)) for c in found.columns]
        for row in found.rows:
            widths = [max(w, len(_cell(v))) for w, v in zip(widths, row, strict=True)]
        for line in chain([found.columns, ["─" * w for w in widths]], found.rows):
            cells = (_cell(v).ljust(w) for v, w in zip(line, widths, strict=True))
            out("  ".join(cells).rstrip())


def _cell(value: Any) -> str:
    return "" if value is None else printable(str(_spelt(value)))


def _spelt(value: Any) -> Any:
    """A truth as SQL writes it; anything else as it is."""
    return str(value).lower() if isinstance(value, bool) else value


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------ runs


def progress(one: Mapping[str, Any]) -> float:
    """How far a run is, in one line of a terminal that the next takes the place of, elsewhere a line each; seconds until the next."""
    of, through = one["of"], one["done"] + one["failed"]
    share = min(1.0, through / of) if of else 1.0
    began, beat = (datetime.fromisoformat(one[key]) for key in ("began", "beat"))
    minutes = max((beat - began).total_seconds() / 60, 1 / 60)
    left = (
        f", {(of - through) / (through / minutes):.0f} min left"
        if through and through < of and one["state"] == "running"
        else ""
    )
    bar = "█" * round(30 * share) + "░" * (30 - round(30 * share))
    line = f"{bar} {through} of {of} windows, {one['failed']} failed, {through / minutes:.0f} a minute{left}: {one['state']}"
    if sys.stdout.isatty():
        end = "" if one["state"] in ("running", "paused") else "\n"
        sys.stdout.write(f"\r\x1b[K{line}{end}")
        sys.stdout.flush()
        return 1.0
    out(line)
    return 5.0


def failing(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What failed in a run, and why, in a line each."""
    return [f"{one['step']}: {some(len(one['windows']), 'window')}: {one['error']}" for one in found]


# ------------------------------------------------------------------ deploy


def changes(found: Sequence[Any]) -> list[dict[str, Any]]:
    """What a deploy did, or would do, as JSON."""
    return [
        {"what": one.what, "kind": one.kind, "name": one.name, "fields": {key: {"was": was, "is": now} for key, was, now in one.fields}}
        for one in found
    ]  # fmt: skip


def deployed(found: Sequence[Any], *, dry: bool) -> list[str]:
    """What a deploy did, or would do: a line for each thing, and of what changed each field."""
    lines = []
    for one in found:
        lines.append(f"{one.what:>6} {one.kind} {one.name}")
        if one.what == "change":
            lines += [f"         {key}: {_field(was)} -> {_field(now)}" for key, was, now in one.fields]
    if not found:
        return ["Prefect holds what this lake wants"]
    number = Counter(one.what for one in found)
    if dry:
        said = f"{number['add']} to add, {number['change']} to change, {number['remove']} to remove"
    else:
        said = f"{number['add']} added, {number['change']} changed, {number['remove']} removed"
    return [*lines, said]


def _field(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 70 else f"{text[:60]}… ({len(text)} characters)"
