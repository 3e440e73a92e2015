"""The command line: parse, open a lake, call one method, say what came of it. A command imports what it uses."""

import gc
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from assay import tell, tether
from assay.errors import AssayError, LakeDamaged, UsageError
from assay.spoken import some

if TYPE_CHECKING:
    from assay.plan import Step
    from assay.run import Lake
    from assay.run.hand import ByHand
    from assay.settings import Settings

_EXAMPLES = """
\b
Examples:
  assay demo                              the whole platform on real records, then the console
  assay init my-lake && cd my-lake        a lake of your own
  assay plan                              what is missing, and what it costs
  assay apply                             do it
  assay sql "select * from gold.fct_daily_price limit 5"
  assay explain gold.fct_daily_price security_id=… date=2005-02-28 --column return_1d

\b
Exit codes: 0 done · 1 failed · 2 settings, contract or arguments are wrong · 3 the source refused ·
4 a gate is closed · 5 the lake is damaged, or of another format · 6 gold was not released ·
7 an alert fires · 75 busy, try again
"""


class _Say:
    """Where progress goes: to standard error, so that standard output stays data."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def __call__(self, line: str) -> None:
        if not self.quiet:
            tell.err(line)


@click.group(
    epilog=_EXAMPLES,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--lake",
    "path",
    default=".",
    show_default=True,
    envvar="ASSAY_LAKE",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The lake's directory.",
)
@click.option(
    "--env",
    default="dev",
    show_default=True,
    envvar="ASSAY_ENV",
    show_envvar=True,
    help="Prefixes every path of the lake's data.",
)
@click.option(
    "--target",
    default="local",
    show_default=True,
    envvar="ASSAY_TARGET",
    show_envvar=True,
    help="Where the lake runs: local, or aws.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.option("--quiet", is_flag=True, help="No progress lines.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="assay")
@click.pass_context
def cli(ctx: click.Context, path: Path, env: str, target: str, as_json: bool, quiet: bool, debug: bool) -> None:
    """The lake that runs whole on your laptop, and can explain every number it serves."""
    ctx.obj = {"path": path, "env": env, "target": target, "json": as_json, "say": _Say(quiet), "debug": debug}
    handler = logging.StreamHandler()
    handler.setFormatter(tell.Logged("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])


_received: list[int] = []


def _terminated(number: int, _: object) -> None:
    """SIGTERM ends a command as Ctrl-C does, an event loop's included."""
    _received.append(number)
    signal.raise_signal(signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; an error is one sentence and its own exit code, a traceback only with --debug."""
    said = list(args) if args is not None else sys.argv[1:]
    debug = "--debug" in said
    sys.excepthook = tell.failed
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background job ignores it. It goes on doing so, yet an event loop must know what SIGTERM makes of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminated)
    tether.follow()
    gc.set_threshold(10_000)  # a backfill keeps some objects a window: by default all are looked through every 700
    try:
        sys.exit(cli.main(args=said, standalone_mode=False) or 0)
    except AssayError as error:
        if debug:
            raise
        if "--json" in said:
            told = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
            tell.data(told, to_err=True, indent=None)
        else:
            tell.error(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        tell.refused(error)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        tell.err("stopped; what was committed stays, the rest is planned again")
        sys.exit(128 + (_received or [signal.SIGINT])[0])
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        where = f": {error.filename}" if error.filename else ""
        tell.err(f"{type(error).__name__}: {error.strerror}{where}; --debug shows where")
        sys.exit(1)


@contextmanager
def _lake(ctx: click.Context, *, erasing: bool = False) -> "Iterator[Lake]":
    from assay.run import lake as lakes

    if ctx.info_name not in ("plan", "apply", "land"):
        lakes.exists(ctx.obj["path"], ctx.obj["env"])
    with lakes.open(ctx.obj["path"], ctx.obj["env"], ctx.obj["target"], erasing=erasing) as lake:
        yield lake


def _with_lake(function: Callable[..., None]) -> Callable[..., None]:
    @click.pass_context
    @wraps(function)
    def wrapped(ctx: click.Context, /, *args: Any, **kwargs: Any) -> None:
        with _lake(ctx) as lake:
            function(ctx, lake, *args, **kwargs)

    return wrapped


def _out(ctx: click.Context, data: Any, lines: Sequence[str]) -> None:
    if ctx.obj["json"]:
        tell.data(data)
    else:
        for line in lines:
            tell.out(line)


def _raise(errors: Sequence[AssayError]) -> None:
    if errors:
        said = Counter((type(one), one.args) for one in errors[1:])
        for (kind, lines), times in said.items():
            tell.error(kind(*lines), times)
        raise errors[0]


def _span(text: str | None) -> Any:
    from assay.windows import Window

    return Window.parse(text) if text else None


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--example", type=click.Choice(["csv", "http", "markets", "wide"]), default="csv", show_default=True,
              help="csv: your own files · http: a source of one file for your own API · markets: the demo's lake · "
                   "wide: the same with more companies, an index and the Treasury's rates.")  # fmt: skip
@click.pass_context
def init(ctx: click.Context, directory: Path, example: str) -> None:
    """Make a new lake.

    \b
    Example:
      assay init my-lake && cd my-lake && assay check && assay apply
    """
    from assay.run import demo
    from assay.run import init as make

    made = make(directory, *demo.example_lakes(example))
    _out(ctx, {"lake": str(made)}, [f"made {made}", f"next: cd {made} && assay check && assay plan && assay apply"])


@cli.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Check the lake's files, and say all that is wrong: settings, contracts, universes, sources, dbt project, deploy.yaml. Reads no data.

    \b
    Example:
      assay --lake my-lake check
    """
    from assay.errors import together
    from assay.flows import described
    from assay.run import check as check_lake

    path, env = ctx.obj["path"], ctx.obj["env"]
    wrong: list[AssayError] = []
    try:
        described.read(path, env)
    except AssayError as error:
        wrong.append(error)
    try:
        found = check_lake(path, env)
    except AssayError as error:
        raise together([error, *wrong]) from None
    if wrong:
        raise wrong[0]
    contracts, gold = some(len(found["datasets"]), "contract"), some(len(found["gold"]), "gold table")
    _out(ctx, found, [f"in order: {contracts} and {gold}", *found["ending"]])


@cli.command()
@click.argument("name")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), help="Its first day; where the file begins, or 1990-01-01.")
@click.pass_context
def calendar(ctx: click.Context, name: str, start: datetime | None) -> None:
    """Write the calendar of an exchange into the lake, calendars/NAME.csv: its sessions and half days, as long as they are known.

    It takes them from exchange_calendars, which `pip install 'assay[calendars]'` installs.

    \b
    Example:
      assay calendar XNYS
    """
    from assay.run import calendar as write

    found = write(ctx.obj["path"], name, start.date() if start else None)
    said = {"file": found.file, "start": found.start, "end": found.end}
    _out(ctx, said, [f"wrote {found.file}: {tell.calendar(found)}"])


@cli.command()
@click.argument("dataset")
@_with_lake
def contract(ctx: click.Context, lake: "Lake", dataset: str) -> None:
    """Show what a dataset's contract promises: columns, rules, and all else it says.

    \b
    Example:
      assay contract price_eod
    """
    from dataclasses import asdict

    found = lake.contract(dataset)
    _out(ctx, {k: v for k, v in asdict(found).items() if k not in ("text", "path")}, tell.contract(found))


@cli.command()
@click.argument("select", nargs=-1)
@click.option("--span", help="Land only these days (2020-01-01..2021-01-01); what has none is landed whole.")
@click.option(
    "--regate", is_flag=True, help="Judge everything again by today's gate, where it changed or a batch is held."
)
@_with_lake
def plan(ctx: click.Context, lake: "Lake", select: tuple[str, ...], span: str | None, regate: bool) -> None:
    """Show the missing steps with calls, minutes at the permitted rate, bytes, money and quotas.

    \b
    Examples:
      assay plan                     everything
      assay plan price_eod+          one dataset and what is built from it
      assay plan source:fmp --span 2012-01-01..2013-01-01
    """
    steps = lake.plan(select, span=_span(span), regate=regate)
    cost = lake.cost(steps)
    paused = lake.paused(select)
    found = {"steps": [tell.step(s) for s in steps], "cost": cost, "paused": [one.dataset for one in paused]}
    _out(ctx, found, tell.plan(steps, cost, paused))


@cli.command()
@click.argument("select", nargs=-1)
@click.option("--span", help="Land only these days (2020-01-01..2021-01-01); what has none is landed whole.")
@click.option(
    "--regate", is_flag=True, help="Judge everything again by today's gate, where it changed or a batch is held."
)
@_with_lake
def apply(ctx: click.Context, lake: "Lake", select: tuple[str, ...], span: str | None, regate: bool) -> None:
    """Run the missing steps.

    \b
    Examples:
      assay apply
      assay apply price_eod          land and refine one dataset, build nothing
    """
    what = {"command": "apply", "select": list(select), "span": span}
    _apply(ctx, lake, lake.plan(select, span=_span(span), regate=regate), what)


def _apply(
    ctx: click.Context, lake: "Lake", steps: "Sequence[Step]", what: dict[str, Any], left: Sequence[str] | None = None
) -> None:
    done = lake.apply(steps, say=ctx.obj["say"], what=what, live=what["command"] != "backfill")
    landed = [one for one in done.landed if one.batch]
    data = {
        "run": done.run, "steps": len(steps), "landed": len(landed), "rows": done.rows, "held": done.held,
        "refined": {one.evidence[0].dataset: one.counts for one in done.refined if one.evidence},
        "release": done.release.number if done.release else None, "errors": [str(e) for e in done.errors],
    }  # fmt: skip
    if left is not None:
        data["left"] = list(left)
    told = f"{some(len(steps), 'step')}, {some(len(landed), 'batch')} of {some(done.rows, 'row')}"
    _out(ctx, data, [told if steps else tell.NOTHING])
    _raise(done.errors)


@cli.command()
@click.argument("select")
@click.argument("span")
@click.option(
    "--allow-part", is_flag=True, help="Ask what the quota has room for today, and leave the rest for another day."
)
@_with_lake
def backfill(ctx: click.Context, lake: "Lake", select: str, span: str, allow_part: bool) -> None:
    """Land the days of a span that are missing, refine them, and release the gold they touch, once.

    What a source gives only whole is landed whole, if it is due. What it costs is said before anything is asked; more than a source's quota has left today is refused. Run again, it
    asks for what is missing then, whatever became of it before.

    \b
    Examples:
      assay backfill price_eod 2010-01-01..2012-01-01
      assay backfill source:fmp 2010-01-01..2012-01-01 --allow-part
    """
    steps, over = lake.backfill(select, _span(span), part=allow_part)
    for line in tell.plan(steps, lake.cost(steps))[-1:]:
        ctx.obj["say"](line)
    if over:
        ctx.obj["say"](f"what the quota has no room for today is left: {'; '.join(over)}; run it again then")
    _apply(ctx, lake, steps, {"command": "backfill", "select": [select], "span": span}, left=over)


@cli.command()
@click.argument("dataset")
@click.option("--shard", help="One symbol only.")
@click.option("--span", help="Only these days (2020-01-01..2021-01-01); what has none is landed whole.")
@click.option("--again", is_flag=True, help="Ask again for what is landed already: new batches beside the old ones.")
@_with_lake
def land(ctx: click.Context, lake: "Lake", dataset: str, shard: str | None, span: str | None, again: bool) -> None:
    """Land one dataset: what is missing of it, or all of it again.

    \b
    Example:
      assay land price_eod_adjusted --again
    """
    steps = lake.landings(dataset, again=again, span=_span(span))
    if shard is not None:
        known = lake.shards(dataset)
        if shard not in known:
            raise UsageError(f"{dataset} has no shard {shard!r}; it has {', '.join(known)}")
        steps = [s for s in steps if s.shard == shard]
    done = lake.apply(steps, say=ctx.obj["say"])
    landed = [one for one in done.landed if one.batch]
    data = {"landed": [f"{one.position}.{one.batch.n}" for one in landed if one.batch]}
    _out(ctx, data, [f"{some(len(landed), 'batch')}, {some(done.rows, 'row')}"])
    _raise(done.errors)


@cli.command()
@click.argument("dataset")
@click.option("--rebuild", is_flag=True, help="Fold the whole log anew and replace the tables' files in one commit.")
@click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    help="What computes it, whatever the contract says; rows are the same.",
)
@_with_lake
def refine(ctx: click.Context, lake: "Lake", dataset: str, rebuild: bool, engine: str | None) -> None:
    """Refine one dataset's batches that are not judged yet.

    \b
    Example:
      assay refine price_eod
    """
    done = lake.refine(dataset, everything=rebuild, engine=engine)
    _out(ctx, {"evidence": [e.number for e in done.evidence], "counts": done.counts}, [done.told])
    _raise(tell.held(done))


@cli.command()
@_with_lake
def build(ctx: click.Context, lake: "Lake") -> None:
    """Compute gold by dbt, test it, and release it.

    \b
    Example:
      assay build
    """
    from assay.lake.release import told

    made = lake.build(say=ctx.obj["say"])
    _out(ctx, {"release": made.number, "gold": {g.name: g.rows for g in made.gold}}, [told(made)])


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@_with_lake
def dbt(ctx: click.Context, lake: "Lake", directory: Path) -> None:
    """Write the dbt project into an empty directory, ready for dbt itself: with sources, seeds, a profile, and silver as it is now.

    Nothing that dbt does there reaches the lake.

    \b
    Example:
      assay dbt /tmp/gold && cd /tmp/gold && dbt build --profiles-dir .
    """
    lake.dbt(directory)
    _out(ctx, {"project": str(directory)}, [f"made {directory}", f"next: cd {directory} && dbt build --profiles-dir ."])


@cli.command()
@_with_lake
def status(ctx: click.Context, lake: "Lake") -> None:
    """Show what is there: freshness, counts, what is held or failing and why, the last release.

    \b
    Example:
      assay status
    """
    found = lake.status()
    _out(ctx, found, tell.status(found))


@cli.command()
@click.option(
    "--send", is_flag=True, help="Tell the webhooks what began, is another now, or is over since they were told last."
)
@_with_lake
def alerts(ctx: click.Context, lake: "Lake", send: bool) -> None:
    """Show which alerts of assay.toml fire, since when and why. Exit code 7 if any does.

    \b
    Examples:
      assay alerts
      assay alerts --send            from cron or a flow; each webhook is told once when it begins, and once when it is over
    """
    found = lake.alerts(send=send)
    data = {"firing": [one.data for one in found.firing], "sent": found.sent, "errors": [str(e) for e in found.errors]}
    _out(ctx, data, tell.alerts_told(found, policies=len(lake.target.settings.alerts)))
    _raise([*([found.error] if found.error else []), *found.errors])


@cli.command()
@click.option(
    "--since",
    metavar="RUN|TIME",
    help="Only what ended with that run or later, or at that time (2024-01-31T12:00Z) or later.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file to write, rather than standard output."
)
@_with_lake
def lineage(ctx: click.Context, lake: "Lake", since: str | None, output: Path | None) -> None:
    """Export OpenLineage run events of what was landed, refined and built, one JSON object a line.

    \b
    Examples:
      assay lineage
      assay lineage --since 2024-01-31 --output events.ndjson
    """
    found = lake.lineage(since)
    if output is None:
        for event in found:
            tell.data(event, indent=None)
    else:
        ctx.obj["say"](f"wrote {some(tell.lines_to(output, found), 'event')} to {output}")


@cli.group()
def quarantine() -> None:
    """Rows that did not become silver: see them, try them again."""


@quarantine.command("list")
@click.argument("dataset", required=False)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 10_000_000), help="Rows to show at most."
)
@_with_lake
def quarantine_list(ctx: click.Context, lake: "Lake", dataset: str | None, limit: int) -> None:
    """Show quarantined rows with their reasons, and the line as it lies in bronze; of held batches the bad rows.

    Beside a row stands what is current of its key: the older row of a batch, which may be out of date, or that it was
    mended since.

    \b
    Example:
      assay quarantine list price_eod
    """
    rows = lake.quarantined(dataset, limit)
    _out(ctx, rows, [tell.rejected(r) for r in rows] or ["quarantine is empty"])


@quarantine.command("replay")
@click.argument("dataset")
@_with_lake
def quarantine_replay(ctx: click.Context, lake: "Lake", dataset: str) -> None:
    """Judge a dataset's quarantined rows again by today's contract; what is good now goes in.

    \b
    Example:
      assay quarantine replay price_eod
    """
    done = lake.replay(dataset)
    _out(ctx, {"evidence": [e.number for e in done.evidence], "counts": done.counts}, [done.told])
    _raise(tell.held(done))


@cli.group()
def decide() -> None:
    """Decisions that a person takes: about batches, rows, or whether a source is asked. Each is an entry of the dataset's log."""


def _by_whom(function: Callable[..., None]) -> Callable[..., None]:
    """What every decision says: why, and who."""
    why = click.option("--why", required=True, help="The reason; it stays in the log with the decision.")
    who = click.option(
        "--who", default=lambda: os.environ.get("USER", ""), help="Who decides; the user's name unless told."
    )
    return why(who(function))


def _about_batches(kind: str, says: str, why: str) -> None:
    """A decision about batches, as `assay status` names them."""
    example = f'\b\nExample:\n  assay decide {kind} price_eod 1260.17 --why "{why}"'

    @decide.command(kind, help=f"{says}\n\n{example}")
    @click.argument("dataset")
    @click.argument("batch", nargs=-1, required=True)
    @_by_whom
    @_with_lake
    def _(ctx: click.Context, lake: "Lake", dataset: str, batch: tuple[str, ...], who: str, why: str) -> None:
        done = lake.decide(dataset, kind, batch, who=who, why=why)
        _out(ctx, {"evidence": [e.number for e in done.evidence], "counts": done.counts}, [done.told])
        _raise(tell.held(done))


_about_batches("release", "Let held batches in.", "the vendor confirmed the split")
_about_batches("rejudge", "Judge batches again, by today's contract.", "the rule was wrong")
_about_batches("withdraw", "Let withdrawals go that are held.", "they were delisted")
_about_batches(
    "exclude", "Take batches out of silver: nothing of them counts, and their days are asked again.", "a trial"
)
_about_batches(
    "lost",
    "Declare batches lost for good: nothing of them counts, and their days are asked again. A part of bronze may be named instead, "
    "which is all batches in it, or a kept answer, whose rows stay.",
    "no copy has it",
)


@decide.command()
@click.argument("dataset")
@click.argument("key", nargs=-1, required=True)
@click.option(
    "--set", "values", multiple=True, help="COLUMN=VALUE, spelt as the source does. May be given several times."
)
@click.option("--null", "nulls", multiple=True, help="A column that should be null. May be given several times.")
@_by_whom
@_with_lake
def correct(
    ctx: click.Context,
    lake: "Lake",
    dataset: str,
    key: tuple[str, ...],
    values: tuple[str, ...],
    nulls: tuple[str, ...],
    who: str,
    why: str,
) -> None:
    """Write values of a current row by hand. The former version stays in past; what the source says of the row later takes its place.

    \b
    Example:
      assay decide correct price_eod symbol=IBM date=2005-02-28 --set close=92.50 --why "the exchange's record"
    """
    from assay.run.hand import pairs

    changes: dict[str, str | None] = {**pairs(values, "--set")}
    for name in nulls:
        if name in changes:
            raise UsageError(f"{name} is given twice")
        changes[name] = None
    _by_hand(ctx, lake.correct(dataset, pairs(key, "the key"), changes, who=who, why=why))


@decide.command()
@click.argument("dataset")
@click.argument("key", nargs=-1, required=True)
@_by_whom
@_with_lake
def remove(ctx: click.Context, lake: "Lake", dataset: str, key: tuple[str, ...], who: str, why: str) -> None:
    """Take a current row away by hand. Its versions stay in past; what the source says of the row later brings it back.

    \b
    Example:
      assay decide remove price_eod symbol=IBM date=2005-02-28 --why "no trade took place"
    """
    from assay.run.hand import pairs

    _by_hand(ctx, lake.remove(dataset, pairs(key, "the key"), who=who, why=why))


@decide.command()
@click.argument("dataset")
@click.argument("subject", metavar="COLUMN=VALUE", required=False)
@click.option("--why", help="The reason; it stays in the log with the decision.")
@click.option("--who", default=lambda: os.environ.get("USER", ""), help="Who decides; the user's name unless told.")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@click.option(
    "--although-others-change",
    "although",
    is_flag=True,
    help="Erase also where rows of others would be other ones.",
)
@click.option("--resume", is_flag=True, help="Go on with an erasure that was stopped.")
@click.pass_context
def erase(
    ctx: click.Context, dataset: str, subject: str | None, why: str | None, who: str, *, dry_run: bool, although: bool, resume: bool
) -> None:  # fmt: skip
    """Erase the rows of a subject for good, from every zone: all versions of the keys that have a value in a column.

    Nobody else may have the lake open. Tombstones keep the account, and all that follows from bronze is made anew.
    Backups, copies that others made and the source itself are not reached.

    \b
    Example:
      assay decide erase orders customer=C-17 --why "request 2026-104" --dry-run
    """
    from assay.run.hand import pairs
    from assay.run.search import SHORTEST

    with _lake(ctx, erasing=True) as lake:
        if resume is (subject is not None) or (not resume and not why):
            raise UsageError("say whose rows by COLUMN=VALUE and --why, or --resume alone")
        [(column, value)] = pairs([subject], "the subject").items() if subject else [("", "")]
        data: dict[str, Any] = {"dataset": dataset}
        if resume:
            lake.resume_erasure(dataset)
        else:
            found = lake.erase(dataset, column, value, who=who, why=why or "", dry=dry_run, although=although)
            data = found.data
            if dry_run:
                _out(ctx, data, tell.erased(found, dry=True))
                return
            for line in tell.erased(found, dry=False):
                ctx.obj["say"](line)
        ctx.obj["say"]("what follows from bronze is made anew")
        done = lake.apply(lake.plan(land=False), say=ctx.obj["say"])
        left = lake.search(value) if len(value.strip()) >= SHORTEST else None
        _out(ctx, {**data, "found_in": left}, tell.searched(left))
        _raise([*done.errors, *tell.left(left or [])])


def _by_hand(ctx: click.Context, done: "ByHand") -> None:
    found = {
        "key": dict(done.key), "changed": {name: list(values) for name, values in done.changed.items()},
        "evidence": [e.number for e in done.refined.evidence], "counts": done.refined.counts,
    }  # fmt: skip
    _out(ctx, found, [done.told, "silver is newer than what is served now: `assay build` releases it"])
    _raise(tell.held(done.refined))


def _about_asking(kind: Any, says: str, why: str) -> None:
    """A decision whether a dataset's source is asked."""
    example = f'\b\nExample:\n  assay decide {kind} price_eod --why "{why}"'

    @decide.command(kind, help=f"{says}\n\n{example}")
    @click.argument("dataset")
    @_by_whom
    @_with_lake
    def _(ctx: click.Context, lake: "Lake", dataset: str, who: str, why: str) -> None:
        lake.pause(dataset, kind, who=who, why=why)
        told = [f"{one.dataset} is {one.told}" for one in lake.paused([dataset])]
        _out(
            ctx,
            {"dataset": dataset, "kind": kind},
            told or [f"{dataset} is asked for again; `assay plan` says what is due"],
        )


_about_asking(
    "pause",
    "Ask a dataset's source no more until it is resumed. What is landed is refined and served as before.",
    "the vendor restates its history",
)
_about_asking(
    "retire",
    "Ask a dataset's source no more, for good: late is not told any more, all stays readable.",
    "replaced by v2",
)
_about_asking("resume", "Have a paused or retired dataset asked for again.", "the vendor is done")


@cli.group()
def verify() -> None:
    """Prove that nothing was lost or altered."""


@verify.command("counts")
@_with_lake
def verify_counts(ctx: click.Context, lake: "Lake") -> None:
    """Count every batch anew in requests, parts, entries, evidence, quarantine, silver and ledger.

    \b
    Example:
      assay verify counts
    """
    from assay.run import prove

    found = prove.counts(lake)
    waiting = [f"{found['unjudged']} of them wait for a refine"] if found["unjudged"] else []
    _out(
        ctx,
        found,
        [f"{some(found['batches'], 'batch')}, {some(found['captured'], 'row')}: every place agrees", *waiting],
    )


@verify.command("bronze")
@_with_lake
def verify_bronze(ctx: click.Context, lake: "Lake") -> None:
    """Read every log entry and bronze object and compare each with what names it, byte for byte.

    \b
    Example:
      assay verify bronze
    """
    from assay.run import prove

    found = prove.bronze_objects(lake)
    _out(ctx, found, [f"{found['batches']} batches in {found['objects']} objects are what was written"])


@verify.command("silver")
@_with_lake
def verify_silver(ctx: click.Context, lake: "Lake") -> None:
    """Read all evidence, quarantine and silver files, byte for byte, and hold Iceberg's own lists against them.

    \b
    Example:
      assay verify silver
    """
    from assay.run import prove

    found = prove.silver_objects(lake)
    _out(ctx, found, [f"{some(found['datasets'], 'dataset')} in {found['objects']} objects are what was written"])


@verify.command("serving")
@_with_lake
def verify_serving(ctx: click.Context, lake: "Lake") -> None:
    """Read every file that serves the current release and compare it with the release, byte for byte.

    \b
    Example:
      assay verify serving
    """
    from assay.run import prove

    found = prove.serving(lake)
    what = f"release {found['release']}: {some(found['files'], 'file')} as written"
    _out(ctx, found, [what if found["release"] else "nothing is released yet"])


@verify.command("rebuild")
@click.argument("dataset", required=False)
@_with_lake
def verify_rebuild(ctx: click.Context, lake: "Lake", dataset: str | None) -> None:
    """Fold the log anew in a scratch directory and compare all rows, current and past, key by key.

    \b
    Example:
      assay verify rebuild price_eod
    """
    from assay.run import prove

    if dataset:
        lake.contract(dataset)
    found = prove.rebuild(lake, [dataset] if dataset else list(lake.contracts))
    _out(ctx, found, [f"{d}: {n} versions are the same" for d, n in found.items()])


@verify.command("erased")
@click.argument("value")
@_with_lake
def verify_erased(ctx: click.Context, lake: "Lake", value: str) -> None:
    """Search a text in every file of the lake's data, inflated and decoded: exit code 1, and which files, if it stands in any.

    \b
    Example:
      assay verify erased C-17
    """
    left = lake.search(value)
    _out(ctx, {"found_in": left}, tell.searched(left))
    _raise(tell.left(left))


@cli.command()
@click.option("--apply", "really", is_flag=True, help="Do it; without, it is only said.")
@_with_lake
def upkeep(ctx: click.Context, lake: "Lake", really: bool) -> None:
    """Compact small files, expire old snapshots and releases, take away what nothing names. Says only what it would do.

    \b
    Example:
      assay upkeep --apply
    """
    found = lake.upkeep(dry=not really, say=ctx.obj["say"])
    _out(ctx, found, tell.upkeep(found, dry=not really))


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_context
def upgrade(ctx: click.Context, dry_run: bool) -> None:
    """Bring the lake's data to the format of this assay, step by step. Stopped anywhere, it goes on when it is run again.

    Stop first what runs on this environment; what was forgotten does no harm.

    \b
    Example:
      assay upgrade --dry-run
    """
    from contextlib import closing

    from assay import settings, targets, up
    from assay.run import lake as lakes
    from assay.run.upgrade import upgrade as run

    lakes.exists(ctx.obj["path"], ctx.obj["env"])
    said = settings.read(ctx.obj["path"], ctx.obj["env"])
    with closing(targets.open(ctx.obj["target"], said)) as target:
        found = run(target, dry=True)
        if found.steps and not dry_run:
            with up.alone(said.data):
                found = run(target, say=ctx.obj["say"])
    _out(ctx, {"from": found.before, "to": found.now, "steps": found.steps}, tell.upgraded(found, dry=dry_run))


@cli.command()
@click.argument("table")
@click.argument("key", nargs=-1)
@click.option("--column", help="One column; without it the whole row is recomputed.")
@click.option("--listed", default=20, show_default=True, help="Input rows to follow to bronze; the rest is counted.")
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0.01, 86_400),
    help="Seconds the explanation may take.",
)
@_with_lake
def explain(
    ctx: click.Context,
    lake: "Lake",
    table: str,
    key: tuple[str, ...],
    column: str | None,
    listed: int,
    timeout: float,
) -> None:
    """Say why a number of gold, or of silver, is that number.

    Of a row of silver that is gone it shows the last version, since when it is gone, and the answer that lacked it or
    who deleted it. Beside a row stands where a newer record of it lies that was rejected.

    \b
    Example:
      assay explain fct_daily_price security_id=… date=2005-02-28 --column return_1d
      assay explain silver.price_eod symbol=IBM date=2005-02-28 --column close
    """
    if any("=" not in one for one in key):
        raise UsageError("give the key as column=value, for example date=2005-02-28")
    pairs = [one.split("=", 1) for one in key]
    if len({name for name, _ in pairs}) < len(pairs):
        raise UsageError("a column of the key is given twice")
    found = lake.explain(table, dict(pairs), column, listed=listed, timeout=timeout)
    _out(ctx, found, tell.explanation(found))
    if not found["recomputed"]["equal"] and not found["model"]:
        raise LakeDamaged(
            f"{found['table']} is not what its line gives by the contract that judged it; `assay verify rebuild` finds out"
        )
    if not found["recomputed"]["equal"]:
        raise LakeDamaged(
            f"{found['table']} is not what its input rows give: either meta.assay.inputs of its model does not name all of them "
            "(mend it in the model's yml), or what is served was altered (`assay verify serving` finds out)"
        )


@cli.command()
@click.argument("what", nargs=-1, metavar="[OLD [NEW]] [TABLE]...")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="Rows to list at most, of each table those added, removed and changed; all are counted.",
)
@_with_lake
def diff(ctx: click.Context, lake: "Lake", what: tuple[str, ...], limit: int) -> None:
    """Say by key what differs between two releases: tables, columns and rows of gold, how far silver was read, the models.

    OLD and NEW are numbers of releases, or ENV:NUMBER of another environment of this lake. Without NEW it is the
    current release, without OLD the one before. The exit code is 0 whether they differ or not.

    \b
    Examples:
      assay diff
      assay diff 3 5 mart_position
      assay diff prod:12 --limit 100
    """
    from assay.run.diff import RELEASE

    numbers = [one for one in what[:2] if RELEASE.fullmatch(one)]
    if numbers and numbers[0] != what[0]:
        raise UsageError(f"{what[0]} stands before {numbers[0]}; say the releases first, then tables")
    old, new, *_ = [*numbers, None, None]
    found = lake.diff(old, new, what[len(numbers) :], limit=limit)
    _out(ctx, found, tell.difference(found))


@cli.command()
@click.argument("query")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How rows are printed.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000_000),
    help="Rows to give at most; 1000 unless told for a table, all for CSV and JSON.",
)
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0.01, 86_400),
    help="Seconds the query may take.",
)
@_with_lake
def sql(ctx: click.Context, lake: "Lake", query: str, form: str, limit: int | None, timeout: float) -> None:
    """Ask the current release: one read-only SELECT over gold.* and silver.*.

    \b
    Example:
      assay sql "select symbol, count(*) from silver.price_eod group by 1"
    """
    form = "json" if ctx.obj["json"] else form
    limit = limit or (1000 if form == "table" else 10_000_000)
    with lake.asked(query, limit=limit, timeout=timeout) as found:
        tell.rows(found, form)
    if found.truncated:
        tell.err(f"these are the first {limit} rows, there are more; --limit gives them")


@cli.command()
@click.option(
    "--port",
    default=8320,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Where to listen; 0 takes a free port.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; beyond loopback each request must show an API key, and a TLS proxy belongs before it.",
)
@click.option("--keys", "keyed", is_flag=True, help="Demand API keys on loopback too.")
@_with_lake
def serve(ctx: click.Context, lake: "Lake", port: int, host: str, keyed: bool) -> None:
    """Serve the REST API and the console, on this machine or, to those who have an API key, beyond it.

    \b
    Examples:
      assay serve --port 8320
      assay keys create ci && assay serve --host 0.0.0.0
    """
    if not host.strip():
        raise UsageError("--host is empty, which would be every address of this machine; say 0.0.0.0 if you mean that")
    with _until_stopped():
        lake.serve(host, port, keyed=keyed, ready=lambda url: ctx.obj["say"](f"console: {url}"))


def _user() -> str:
    """The name of whoever runs the command; empty where the machine has none."""
    from getpass import getuser

    try:
        return getuser()
    except (KeyError, OSError):
        return ""


@cli.group()
def keys() -> None:
    """Make and revoke API keys: what programs and people show to read over HTTP."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--datasets",
    multiple=True,
    metavar="NAME,…",
    help="Read only these, and gold that is computed from nothing else; all unless told. May be given several times.",
)
@click.option(
    "--expires", help="When it ends: 90d, or a day such as 2027-01-31 (its midnight in UTC). Never, unless told."
)
@click.option("--who", default=_user, help="Who makes it; the user's name unless told.")
@_with_lake
def keys_create(
    ctx: click.Context, lake: "Lake", name: str, datasets: tuple[str, ...], expires: str | None, who: str
) -> None:
    """Make an API key and print it, once: only its hash is kept.

    \b
    Examples:
      assay keys create dashboards
      assay keys create research --datasets price_eod,splits --expires 90d
    """
    from assay.lake.keys import until

    read = [one.strip() for said in datasets for one in said.split(",")] if datasets else None
    made, text = lake.create_key(name, who=who, datasets=read, expires=until(expires) if expires is not None else None)
    ctx.obj["say"](f"{tell.key(made)}; it is shown here and never again:")
    _out(ctx, tell.key_data(made) | {"key": text}, [text])


@keys.command("list")
@_with_lake
def keys_list(ctx: click.Context, lake: "Lake") -> None:
    """List the API keys: whose they are, what they read, until when, and whether they are active, expired or revoked.

    \b
    Example:
      assay keys list
    """
    found = lake.keys()
    _out(ctx, [tell.key_data(one) for one in found], [tell.key(one) for one in found] or ["there are no keys yet"])


@keys.command("revoke")
@click.argument("id")
@click.option("--who", default=_user, help="Who revokes it; the user's name unless told.")
@_with_lake
def keys_revoke(ctx: click.Context, lake: "Lake", id: str, who: str) -> None:  # noqa: A002 - what the user writes
    """Revoke an API key by its ID: servers that run refuse it within seconds. That cannot be undone.

    \b
    Example:
      assay keys revoke 3f2a90c1d4e5b678
    """
    found = lake.revoke_key(id, who=who)
    _out(ctx, tell.key_data(found), [tell.key(found)])


@cli.group(invoke_without_command=True)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="Runs to show at most.")
@click.pass_context
def runs(ctx: click.Context, limit: int) -> None:
    """Runs that asked sources within 30 days, newest first: how far they are; pause, resume, cancel and retry them.

    RUN is an id or its beginning; without one it is the run that goes on.

    \b
    Examples:
      assay runs
      assay runs watch
      assay runs pause 01M8
    """
    if ctx.invoked_subcommand:
        return
    from assay.lake import runs as known

    with _lake(ctx) as lake:
        found = known.listed(lake.target.ledger)[:limit]
        _out(ctx, found, [known.told(one) for one in found] or ["no run is known of the last 30 days"])


@runs.command("watch")
@click.argument("run", required=False)
@click.option("--once", is_flag=True, help="Say it once, and do not wait for its end.")
@_with_lake
def runs_watch(ctx: click.Context, lake: "Lake", run: str | None, once: bool) -> None:
    """Show how far a run is, until it ends: its windows, those a minute, and which failed and why.

    It reads the ledger: whoever runs it, and however often you come and go.

    \b
    Example:
      assay runs watch
    """
    from assay.lake import runs as known

    ledger = lake.target.ledger
    one = known.named(ledger, run)
    while not ctx.obj["json"]:
        pause = tell.progress(one)
        if once or one["state"] not in ("running", "paused"):
            break
        time.sleep(pause)
        one = known.named(ledger, one["run"])
    failing = known.failing(ledger, one)
    _out(ctx, {**one, "failing": failing}, tell.failing(failing))


@runs.command("pause")
@click.argument("run", required=False)
@_with_lake
def runs_pause(ctx: click.Context, lake: "Lake", run: str | None) -> None:
    """Let a run ask nothing more until it is resumed; what it has is put first.

    \b
    Example:
      assay runs pause
    """
    _wish(ctx, lake, run, "pause", "asks nothing more until `assay runs resume`")


@runs.command("resume")
@click.argument("run", required=False)
@_with_lake
def runs_resume(ctx: click.Context, lake: "Lake", run: str | None) -> None:
    """Let a run that is paused go on.

    \b
    Example:
      assay runs resume
    """
    _wish(ctx, lake, run, "resume", "goes on")


@runs.command("cancel")
@click.argument("run", required=False)
@_with_lake
def runs_cancel(ctx: click.Context, lake: "Lake", run: str | None) -> None:
    """End a run: it asks nothing more, puts what it has, and refines and builds nothing.

    \b
    Example:
      assay runs cancel
    """
    _wish(ctx, lake, run, "cancel", "ends, as soon as what it asked has come")


def _wish(ctx: click.Context, lake: "Lake", run: str | None, said: str, told: str) -> None:
    from assay.lake import runs as known

    one = known.named(lake.target.ledger, run)
    known.wish(lake.target.ledger, one, said, os.environ.get("USER", ""))
    _out(ctx, {"run": one["run"], "wish": said}, [f"run {one['run']} {told}"])


@runs.command("retry")
@click.argument("run", required=False)
@_with_lake
def runs_retry(ctx: click.Context, lake: "Lake", run: str | None) -> None:
    """Ask for what a run left, whatever became of it: the same datasets and days, planned again.

    \b
    Example:
      assay runs retry 01M8
    """
    from assay.lake import runs as known

    one = known.named(lake.target.ledger, run)
    if one["state"] in ("running", "paused"):
        raise UsageError(f"run {one['run']} is {one['state']}: `assay runs watch` shows how far it is")
    what = {key: one[key] for key in ("command", "select", "span")}
    if what["command"] == "backfill":
        steps, over = lake.backfill(what["select"][0], _span(what["span"]))
    else:
        steps, over = lake.plan(what["select"], span=_span(what["span"])), None
    _apply(ctx, lake, steps, what, left=over)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def launch(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Run a command elsewhere, and end as it does: with --target aws as a task of ECS, by the definition that [aws] names.

    \b
    Example:
      assay --target aws launch land price_eod --shard AAPL
    """
    from ulid import ULID

    from assay.ports import Job

    with _lake(ctx) as lake:
        run = str(ULID())
        (error,) = lake.target.launcher.run([Job(words, run, words[0])])
    if error:
        raise error
    _out(ctx, {"run": run, "command": list(words)}, [f"done: assay {' '.join(words)}; task of run {run}"])


_env = click.option("--env", "own", help="The environment; the one that stands before the command unless told.")


@cli.command()
@_env
@click.option("--dry-run", is_flag=True, help="Only say what differs: exit code 1 if anything does.")
@click.option("--destroy", is_flag=True, help="Remove all that deploys of this environment made, and nothing else.")
@click.pass_context
def deploy(ctx: click.Context, own: str | None, dry_run: bool, destroy: bool) -> None:
    """Make a Prefect server hold what this lake needs: pools, limits, blocks, deployments with their schedules, automations.

    What that is, its contracts imply and its deploy.yaml says. PREFECT_API_URL names the server; without it, it is
    the one of `assay up`.

    \b
    Examples:
      assay deploy --dry-run         what a hand changed since, too
      assay deploy --env prod
    """
    ctx.obj["env"] = own or ctx.obj["env"]
    with _lake(ctx) as lake:
        _prefect(lake.target.settings)
        from assay.flows import deploy as flows

        changes = flows.deploy(lake, dry=dry_run, destroy=destroy)
    _out(ctx, tell.changes(changes), tell.deployed(changes, dry=dry_run))
    if dry_run and changes:
        ctx.exit(1)


@cli.command()
@_env
@click.option(
    "--port",
    default=8320,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Where the API and the console listen.",
)
@click.option(
    "--prefect-port", default=4200, show_default=True, type=click.IntRange(1, 65535), help="Where Prefect listens."
)
@click.option(
    "--database", help="Prefect's database, postgresql://user@host/name; an SQLite file in the lake unless told."
)
@click.pass_context
def up(ctx: click.Context, own: str | None, port: int, prefect_port: int, database: str | None) -> None:
    """Run the whole platform until it is told to stop: Prefect's server and pages, workers, API and console.

    What is due is asked at once, then as the contracts and deploy.yaml say. All of its state lies in the lake.

    \b
    Example:
      assay up
    """
    _up(ctx, ctx.obj["path"], own or ctx.obj["env"], port, prefect_port, database)


def _up(
    ctx: click.Context,
    root: Path,
    env: str,
    port: int,
    prefect_port: int,
    database: str | None = None,
    *,
    watch: "Callable[[], list[str]] | None" = None,
    once: bool = False,
) -> None:
    """Run the tree. What `watch` gives is printed as soon as it gives something; with `once` that ends it."""
    from assay import settings
    from assay import up as tree
    from assay.flows import described
    from assay.run import lake as lakes

    def watched() -> bool:
        lines = watch() if watch else []
        for line in lines:
            tell.out(line)
        return bool(lines)

    if ctx.obj["target"] != "local":
        raise UsageError(
            "`assay up` runs a lake of this machine: on AWS, `assay deploy` and Prefect's own workers do (docs/ecs.md)"
        )
    if not port:
        raise UsageError("--port 0 takes any free port; `assay up` wants one that is known")
    found = described.read(root, env)
    lakes.exists(root, env)
    with lakes.open(root, env, ctx.obj["target"]) as lake:
        lake.target.ledger.newest("release", "")  # refused here, rather than by each process by itself
    _prefect()
    url = tree.database(database) if database else ""
    one = tree.Up(settings.read(root, env), port, prefect_port, url, tuple(found.pools), ctx.obj["target"])
    tree.run(one, ctx.obj["say"], watched if watch else None, once=once)


def _prefect(settings: "Settings | None" = None) -> None:
    """Before Prefect is imported, which reads its settings then: that it is there, and where its server is."""
    from importlib.util import find_spec

    if find_spec("prefect") is None:
        raise UsageError("Prefect is not installed here: pip install 'assay[prefect]'")
    if settings:
        from assay import up

        up.known(settings)


_wide = click.option(
    "--wide",
    type=click.Path(path_type=Path),
    metavar="WHEEL",
    help="More companies and an index, from a file you get by `pip download --no-deps skfolio==1.12.2`.",
)


@cli.command()
@click.option("--port", default=8321, show_default=True, type=click.IntRange(0, 65535), help="Where to listen.")
@click.option("--seed", type=int, help="Play faults from this seed.")
@click.option(
    "--fault-rate", type=float, default=0.0, show_default=True, help="Share of answers that go wrong, 0 to 1."
)
@click.option(
    "--override", multiple=True, help="SYMBOL:DATE:FIELD=TOKEN changes one record, such as AAPL:2005-02-28:close=50."
)
@_wide
def sandbox(port: int, seed: int | None, fault_rate: float, override: tuple[str, ...], wide: Path | None) -> None:
    """Serve the vendor's API with real records, faults and limits, on this machine. It accepts the key sandbox-key.

    \b
    Example:
      assay sandbox --port 8321 --seed 1 --fault-rate 0.1
    """
    from assay.run import demo

    os.execv(sys.executable, demo.sandbox_command(port, seed, fault_rate, override, wide))  # noqa: S606 - our own module


@cli.group()
def cloudsim() -> None:
    """Doubles of AWS on this machine, to try the AWS target without an account. Emulated: never AWS."""


@cloudsim.command("up", context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def cloudsim_up(options: tuple[str, ...]) -> None:
    """Start the services by `assay-cloudsim up`, with its options (`-- --help` shows them), until interrupted.

    It prints where they are, a line of JSON. It is a distribution of its own, since what it needs cannot be installed beside assay.

    \b
    Examples:
      assay cloudsim up --directory cloud
      assay cloudsim up --port 4566 --image lake:1=/opt/lake
    """
    from assay.run import emulated

    found = emulated.executable()
    os.execv(found, [found, "up", *options])  # noqa: S606 - the one this command is for


@cloudsim.command("prepare")
@click.pass_context
def cloudsim_prepare(ctx: click.Context) -> None:
    """Make in the running doubles what the lake needs to be there: bucket, table, databases, and each secret NAME that is in the environment as ASSAY_SECRET_NAME.

    ASSAY_CLOUDSIM names the endpoints.json of `assay cloudsim up`. What is there stays; a secret gets the new text. On AWS itself nothing is made.

    \b
    Examples:
      assay cloudsim prepare
      ASSAY_SECRET_FMP_API_KEY=... assay --lake trades cloudsim prepare
    """
    from assay.run import emulated

    told = "ASSAY_SECRET_"
    secrets = {name.removeprefix(told): text for name, text in os.environ.items() if name.startswith(told)}
    emulated.prepare(ctx.obj["path"], ctx.obj["env"], secrets)
    ctx.obj["say"]("made in the doubles of AWS: what the lake needs to be there")


@cli.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default="demo-lake",
    show_default=True,
    help="The demo's lake; made if it is not there.",
)
@click.option("--once", is_flag=True, help="Stop after the first number came.")
@click.option("--up", "whole", is_flag=True, help="All of it with Prefect, as `assay up` runs it.")
@click.option(
    "--prefect-port",
    default=4200,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Where Prefect listens, with --up.",
)
@click.option(
    "--port", default=8320, show_default=True, type=click.IntRange(0, 65535), help="Where the console listens."
)
@click.option(
    "--sandbox-port", default=8321, show_default=True, type=click.IntRange(1, 65535), help="Where the sandbox listens."
)
@click.option("--override", multiple=True, help="SYMBOL:DATE:FIELD=TOKEN changes one of the sandbox's records.")
@_wide
@click.pass_context
def demo(
    ctx: click.Context,
    directory: Path,
    once: bool,
    whole: bool,
    prefect_port: int,
    port: int,
    sandbox_port: int,
    override: tuple[str, ...],
    wide: Path | None,
) -> None:
    """The whole platform on real records: sandbox, land, refine, build, serve; then a number and why it is that number.

    \b
    Examples:
      assay demo                 then open the address it ends with
      assay demo --once          for scripts: exits 0 after the first number
      assay demo --up            the same by flows, with Prefect's pages
      assay demo --directory wide-lake --wide skfolio-1.12.2-py3-none-any.whl
    """
    from assay.run import demo as first

    if whole:
        _prefect()
        told = (directory, ctx.obj["env"], ctx.obj["target"])
        with (
            first.begun(directory, sandbox_port, override, ctx.obj["say"], wide),
            first.cloud(*told, ctx.obj["say"]),
        ):
            _up(
                ctx,
                directory,
                ctx.obj["env"],
                port,
                prefect_port,
                watch=lambda: first.released(*told),
                once=once,
            )
        return
    with first.shown(
        directory, ctx.obj["env"], ctx.obj["target"], port, sandbox_port, override, ctx.obj["say"], wide
    ) as lines:
        for line in lines:
            tell.out(line)
        if not once:
            tell.err("serving until interrupted (Ctrl-C)")
            with _until_stopped():
                signal.pause()


@contextmanager
def _until_stopped() -> Iterator[None]:
    """A server that is told to stop has done what it should."""
    try:
        yield
    except KeyboardInterrupt:
        tell.err("stopped")


if __name__ == "__main__":
    main()
