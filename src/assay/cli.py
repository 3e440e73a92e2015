"""The command line: parse, open a lake, call one function, say what happened."""

import json
import logging
import math
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click

from assay import run
from assay.errors import AssayError, LakeDamaged, UsageError
from assay.lake.release import told
from assay.run import demo as first
from assay.run import verify as verifying
from assay.windows import Window

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
4 a gate is closed · 5 the lake is damaged · 6 gold was not released · 75 busy, try again
"""


_NOTHING = (
    "nothing is missing: what was due is landed (`assay land DATASET --again` asks for it anew), judged and released"
)


class _Say:
    """Where progress goes: to standard error, so that standard output stays data."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def __call__(self, line: str) -> None:
        if not self.quiet:
            click.echo(line, err=True)


@click.group(
    epilog=_EXAMPLES,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--lake", "path", default=".", show_default=True, type=click.Path(path_type=Path), help="The lake's directory."
)
@click.option("--env", default="dev", show_default=True, help="Prefixes every path of the lake's data.")
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.option("--quiet", is_flag=True, help="No progress lines.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="assay")
@click.pass_context
def cli(ctx: click.Context, path: Path, env: str, as_json: bool, quiet: bool, debug: bool) -> None:
    """The lake that runs whole on your laptop, and can explain every number it serves."""
    ctx.obj = {"path": path, "env": env, "json": as_json, "say": _Say(quiet), "debug": debug}
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s %(message)s")


_received: list[int] = []


def _terminated(number: int, _: object) -> None:
    """SIGTERM ends a command as Ctrl-C does, an event loop's included."""
    _received.append(number)
    if not callable(signal.getsignal(signal.SIGINT)):  # a shell's background job ignores it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; an error is one sentence and its own exit code, a traceback only with --debug."""
    said = list(args) if args is not None else sys.argv[1:]
    debug = "--debug" in said
    signal.signal(signal.SIGTERM, _terminated)
    try:
        cli.main(args=said, standalone_mode=False)
        sys.exit(0)
    except AssayError as error:
        if debug:
            raise
        if "--json" in said:
            told = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
            click.echo(json.dumps(told), err=True)
        else:
            click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; what was committed stays, the rest is planned again", err=True)
        sys.exit(128 + (_received or [signal.SIGINT])[0])
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        click.echo(f"{type(error).__name__}: {error.strerror}: {error.filename or ''}; --debug shows where", err=True)
        sys.exit(1)


@contextmanager
def _lake(ctx: click.Context) -> Iterator[run.Lake]:
    if ctx.info_name not in ("plan", "apply", "land"):
        run.exists(ctx.obj["path"], ctx.obj["env"])
    lake = run.open(ctx.obj["path"], ctx.obj["env"])
    try:
        yield lake
    finally:
        lake.close()


def _with_lake(function: Callable[..., None]) -> Callable[..., None]:
    @click.pass_context
    @wraps(function)
    def wrapped(ctx: click.Context, /, *args: Any, **kwargs: Any) -> None:
        with _lake(ctx) as lake:
            function(ctx, lake, *args, **kwargs)

    return wrapped


def _out(ctx: click.Context, data: Any, lines: Sequence[str]) -> None:
    if ctx.obj["json"]:
        click.echo(json.dumps(data, default=str, indent=1))
    else:
        for line in lines:
            click.echo(line)


def _raise(errors: Sequence[AssayError]) -> None:
    if errors:
        said = Counter(f"{type(one).__name__}: {one}" for one in errors[1:])
        for text, times in said.items():
            click.echo(f"{text} ({times} times)" if times > 1 else text, err=True)
        raise errors[0]


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--example", type=click.Choice(["csv", "http", "markets"]), default="csv", show_default=True,
              help="csv: your own files · http: a source of one file for your own API · markets: the demo's lake.")  # fmt: skip
@click.pass_context
def init(ctx: click.Context, directory: Path, example: str) -> None:
    """Make a new lake.

    \b
    Example:
      assay init my-lake && cd my-lake && assay check && assay apply
    """
    made = run.init(directory, example_lake(example))
    _out(ctx, {"lake": str(made)}, [f"made {made}", f"next: cd {made} && assay check && assay plan && assay apply"])


def example_lake(name: str) -> Path:
    """An example lake shipped with the package (or beside it, in a checkout)."""
    here = Path(__file__).resolve().parent
    for place in (here / "lakes" / name, here.parents[1] / "lakes" / name):
        if place.is_dir():
            return place
    raise UsageError(f"the example lake {name} is not installed")


@cli.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Check the lake's files: settings, contracts, universes, sources, dbt project. Reads no data.

    \b
    Example:
      assay --lake my-lake check
    """
    found = run.check(ctx.obj["path"], ctx.obj["env"])
    contracts, gold = run.some(len(found["datasets"]), "contract"), run.some(len(found["gold"]), "gold table")
    _out(ctx, found, [f"in order: {contracts} and {gold}"])


@cli.command()
@click.argument("select", nargs=-1)
@click.option("--span", help="Land only these days: 2020-01-01..2021-01-01.")
@click.option("--regate", is_flag=True, help="Judge again by today's gate what was held or judged by another.")
@_with_lake
def plan(ctx: click.Context, lake: run.Lake, select: tuple[str, ...], span: str | None, regate: bool) -> None:
    """Show the missing steps with calls, minutes at the permitted rate and bytes.

    \b
    Examples:
      assay plan                     everything
      assay plan price_eod+          one dataset and what is built from it
      assay plan source:fmp --span 2012-01-01..2013-01-01
    """
    steps = run.plan(lake, select, span=Window.parse(span) if span else None, regate=regate)
    cost = run.cost(lake, steps)
    lines = [f"{step}   ({step.why})" for step in steps]
    if steps:
        size = (
            f"about {cost['bytes'] / 1e6:.1f} MB"
            if cost["bytes"] is not None
            else "size unknown before the first landing"
        )
        lines += [
            f"{run.some(len(steps), 'step')}: {run.some(cost['calls'], 'call')} at least, {cost['minutes']:.1f} minutes at the permitted rate, {size}"
        ]
    else:
        lines = [_NOTHING]
    _out(ctx, {"steps": [{"step": str(s), "why": s.why} for s in steps], "cost": cost}, lines)


@cli.command()
@click.argument("select", nargs=-1)
@click.option("--span", help="Land only these days: 2020-01-01..2021-01-01.")
@click.option("--regate", is_flag=True, help="Judge again by today's gate what was held or judged by another.")
@_with_lake
def apply(ctx: click.Context, lake: run.Lake, select: tuple[str, ...], span: str | None, regate: bool) -> None:
    """Run the missing steps.

    \b
    Examples:
      assay apply
      assay apply price_eod          land and refine one dataset, build nothing
    """
    steps = run.plan(lake, select, span=Window.parse(span) if span else None, regate=regate)
    done = run.apply(lake, steps, say=ctx.obj["say"])
    rows = sum(m.rows for m in done.landed)
    data = {
        "run": done.run, "steps": len(steps), "landed": len(done.landed), "rows": rows, "held": done.held,
        "release": done.release.number if done.release else None, "errors": [str(e) for e in done.errors],
    }  # fmt: skip
    what = f"{run.some(len(steps), 'step')}, {run.some(len(done.landed), 'batch')} of {run.some(rows, 'row')}"
    lines = [what if steps else _NOTHING]
    _out(ctx, data, lines)
    _raise(done.errors)


@cli.command()
@click.argument("dataset")
@click.option("--shard", help="One symbol only.")
@click.option(
    "--again", is_flag=True, help="Ask again for what is landed already: a new generation beside the old one."
)
@_with_lake
def land(ctx: click.Context, lake: run.Lake, dataset: str, shard: str | None, again: bool) -> None:
    """Land one dataset: what is missing of it, or all of it again.

    \b
    Example:
      assay land price_eod_adjusted --again
    """
    steps = run.landings(lake, dataset, again=again)
    if shard is not None:
        known = run.shards(lake, dataset)
        if shard not in known:
            raise UsageError(f"{dataset} has no shard {shard!r}; it has {', '.join(known)}")
        steps = [s for s in steps if s.shard == shard]
    done = run.apply(lake, steps, say=ctx.obj["say"])
    _out(
        ctx,
        {"landed": [m.name for m in done.landed]},
        [f"{run.some(len(done.landed), 'batch')}, {run.some(sum(m.rows for m in done.landed), 'row')}"],
    )
    _raise(done.errors)


@cli.command()
@click.argument("dataset")
@click.option("--rebuild", is_flag=True, help="Refine every batch anew and replace the table's files in one commit.")
@_with_lake
def refine(ctx: click.Context, lake: run.Lake, dataset: str, rebuild: bool) -> None:
    """Refine one dataset's batches that are not judged yet.

    \b
    Example:
      assay refine price_eod
    """
    done = run.refine(lake, dataset, how="rebuild" if rebuild else "refine")
    _out(ctx, {"evidence": done.evidence.id if done.evidence else None}, [run.account(done)])
    _raise(run.held_errors(done))


@cli.command()
@_with_lake
def build(ctx: click.Context, lake: run.Lake) -> None:
    """Compute gold by dbt, test it, and release it.

    \b
    Example:
      assay build
    """
    made = run.build(lake, say=ctx.obj["say"])
    _out(ctx, {"release": made.number, "gold": {g.name: g.rows for g in made.gold}}, [told(made)])


@cli.command()
@_with_lake
def status(ctx: click.Context, lake: run.Lake) -> None:
    """Show what is there: freshness, counts, what is held and why, the last release.

    \b
    Example:
      assay status
    """
    found = run.status(lake)
    lines = []
    for name, one in found["datasets"].items():
        lines.append(
            f"{name}: {one['batches']} batches, {one['captured']} captured = {one['accepted']} accepted + {one['duplicate']} duplicate + "
            f"{one['quarantined']} quarantined + {one['held']} held; newest {one['captured_at'] or 'never'} ({', '.join(one['origins'])})"
        )
        for batch, held in one["held_batches"].items():
            reasons = ", ".join(f"{reason} {n}" for reason, n in held["reasons"].items())
            lines.append(f"  held {batch}: {'; '.join(held['why'])} ({reasons})")
        if one["held_batches"]:
            lines.append(
                f"  see the rows: assay quarantine list {name} · mended at the source: assay land {name} --again, assay apply · "
                f"contract changed: assay apply {name}+ --regate"
            )
        if one["superseded"]:
            lines.append(f"  {one['superseded']} of the held rows were landed again since, and passed")
        if one["unjudged"]:
            lines.append(f"  not judged yet: {run.some(one['unjudged'], 'batch')}; `assay apply` does")
    last = found["release"]
    lines.append(
        f"release {last['number']} of {last['at']}: {', '.join(last['gold'])}" if last else "nothing is released yet"
    )
    _out(ctx, found, lines)


@cli.group()
def quarantine() -> None:
    """Rows that did not become silver: see them, try them again."""


@quarantine.command("list")
@click.argument("dataset", required=False)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 10_000_000), help="Rows to show at most."
)
@_with_lake
def quarantine_list(ctx: click.Context, lake: run.Lake, dataset: str | None, limit: int) -> None:
    """Show quarantined rows with their reasons, and the line as it lies in bronze; of held batches the bad rows.

    \b
    Example:
      assay quarantine list price_eod
    """
    rows = run.quarantined(lake, dataset, limit)
    _out(
        ctx,
        rows,
        [
            f"{r['dataset']} {r['batch']}{' (held)' if r['held'] else ''} #{r['seq']} {', '.join(r['reasons'])}: {r['line'][:200]}"
            for r in rows
        ]
        or ["quarantine is empty"],
    )


@quarantine.command("replay")
@click.argument("dataset")
@_with_lake
def quarantine_replay(ctx: click.Context, lake: run.Lake, dataset: str) -> None:
    """Judge a dataset's quarantined rows again by today's contract; what is good now is appended.

    \b
    Example:
      assay quarantine replay price_eod
    """
    done = run.refine(lake, dataset, how="replay")
    _out(ctx, {"evidence": done.evidence.id if done.evidence else None}, [run.account(done)])


@cli.group()
def verify() -> None:
    """Prove that nothing was lost or altered."""


@verify.command("counts")
@_with_lake
def verify_counts(ctx: click.Context, lake: run.Lake) -> None:
    """Count every batch anew in requests, parts, manifests, evidence, quarantine and silver.

    \b
    Example:
      assay verify counts
    """
    found = verifying.counts(lake)
    _out(
        ctx,
        found,
        [
            f"{found['batches']} batches, {found['captured']} rows: every place agrees",
            *([f"{found['unjudged']} of them wait for a refine"] if found["unjudged"] else []),
        ],
    )


@verify.command("bronze")
@_with_lake
def verify_bronze(ctx: click.Context, lake: run.Lake) -> None:
    """Read every bronze object and compare it with its manifest, byte for byte.

    \b
    Example:
      assay verify bronze
    """
    found = verifying.bronze_objects(lake)
    _out(ctx, found, [f"{found['batches']} batches in {found['objects']} objects are what was written"])


@verify.command("serving")
@_with_lake
def verify_serving(ctx: click.Context, lake: run.Lake) -> None:
    """Read every file that serves the current release and compare it with the release, byte for byte.

    \b
    Example:
      assay verify serving
    """
    found = verifying.serving(lake)
    what = f"release {found['release']}: {run.some(found['files'], 'file')} as written"
    _out(ctx, found, [what if found["release"] else "nothing is released yet"])


@verify.command("rebuild")
@click.argument("dataset", required=False)
@_with_lake
def verify_rebuild(ctx: click.Context, lake: run.Lake, dataset: str | None) -> None:
    """Refine everything anew in an empty scratch lake and compare the version views, key by key.

    \b
    Example:
      assay verify rebuild price_eod
    """
    found = verifying.rebuild(lake, [dataset] if dataset else list(lake.contracts))
    _out(ctx, found, [f"{d}: {n} versions are the same" for d, n in found.items()])


@cli.command()
@click.argument("table")
@click.argument("key", nargs=-1)
@click.option("--column", help="One column; without it the whole row is recomputed.")
@click.option("--listed", default=20, show_default=True, help="Input rows to follow to bronze; the rest is counted.")
@_with_lake
def explain(
    ctx: click.Context, lake: run.Lake, table: str, key: tuple[str, ...], column: str | None, listed: int
) -> None:
    """Say why a gold number is that number.

    \b
    Example:
      assay explain fct_daily_price security_id=… date=2005-02-28 --column return_1d
    """
    if any("=" not in one for one in key):
        raise UsageError("give the key as column=value, for example date=2005-02-28")
    pairs = [one.split("=", 1) for one in key]
    if len({name for name, _ in pairs}) < len(pairs):
        raise UsageError("a column of the key is given twice")
    found = run.explain(lake, table, dict(pairs), column, listed=listed)
    again = found["recomputed"]
    lines = [
        f"{found['table']} {', '.join(f'{k}={v}' for k, v in found['key'].items())}",
        f"  {found['column']} = {found['value']} {found['unit']}   release {found['release']}, origin {', '.join(found['origin'])}",
        f"  recomputed from its input rows alone: {again['value']} ({'equal' if again['equal'] else 'DIFFERENT'})",
        *(f"  from {i['table']}: {i['rows']} rows where {i['where']}" for i in found["inputs"]),
    ]
    for one in found["observations"]:
        lines += [
            f"  {one['dataset']} {', '.join(f'{k}={v}' for k, v in one['key'].items())}  known {one['known_from']} ({one['known_basis']}"
            f"{', backfilled' if one['backfilled'] else ''})",
            f"    {one['file']}:{one['line']}  {one['record']}",
            f"    {one['request']['url']} {one['request']['params']} at {one['request']['at']} → {one['request']['status']}, {one['request']['bytes']} bytes",
            f"    {_rules(one)}",
        ]
    if found["not_listed"]:
        lines.append(f"  … and {found['not_listed']} more input rows")
    _out(ctx, found, lines)
    if not again["equal"]:
        raise LakeDamaged(
            f"{found['table']} is not what its input rows give: either meta.assay.inputs of its model does not name all of them "
            "(mend it in the model's yml), or what is served was altered (`assay verify` finds out)"
        )


def _rules(one: dict[str, Any]) -> str:
    """Which rules held for an observation, and whether its line still refines to the row."""
    words = {True: "holds", False: "BROKEN", None: "not decided"}
    rules = [
        f"{r['name']} {words[r['passed']]}" + (" (warning)" if r["severity"] == "warning" else "") for r in one["rules"]
    ]
    again = {True: "refines to this row", False: "DOES NOT REFINE TO THIS ROW", None: "was not refined again"}
    return f"the line {again[one['record_refines_to_row']]}; {', '.join(rules) or 'no rules'}; contract {one['contract_sha256'][:12]}"


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
def sql(ctx: click.Context, lake: run.Lake, query: str, form: str, limit: int | None, timeout: float) -> None:
    """Ask the current release: one read-only SELECT over gold.* and silver.*.

    \b
    Example:
      assay sql "select symbol, count(*) from silver.price_eod group by 1"
    """
    form = "json" if ctx.obj["json"] else form
    limit = limit or (1000 if form == "table" else 10_000_000)
    found = run.sql(lake, query, limit=limit, timeout=timeout)
    if form == "json":
        twice = [c for c in found.columns if found.columns.count(c) > 1]
        if twice:
            raise UsageError(f"two columns are called {twice[0]}; name one with AS")
        rows = ([_finite(v) for v in row] for row in found.rows)
        click.echo(json.dumps([dict(zip(found.columns, row, strict=True)) for row in rows], default=str))
    elif form == "csv":
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found.columns)
        writer.writerows(found.rows)
    else:
        texts = [["" if v is None else _printable(str(v)) for v in row] for row in found.rows]
        widths = [max([len(c), *(len(t[i]) for t in texts)]) for i, c in enumerate(found.columns)]
        for line in [list(found.columns), ["─" * w for w in widths], *texts]:
            click.echo("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())
    if found.truncated:
        click.echo(f"these are the first {limit} rows, there are more; --limit gives them", err=True)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printable(text: str) -> str:
    """Data cannot steer the terminal: control characters are shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@cli.command()
@click.option(
    "--port",
    default=8320,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Where to listen; 0 takes a free port.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback only, until there are API keys.")
@_with_lake
def serve(ctx: click.Context, lake: run.Lake, port: int, host: str) -> None:
    """Serve the REST API and the console on this machine.

    \b
    Example:
      assay serve --port 8320
    """
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError(f"--host {host}: only loopback is served until API keys exist; use 127.0.0.1")
    run.serve(lake, host, port, ready=lambda url: ctx.obj["say"](f"console: {url}"))


@cli.command()
@click.option("--port", default=8321, show_default=True, type=click.IntRange(0, 65535), help="Where to listen.")
@click.option("--seed", type=int, help="Play faults from this seed.")
@click.option(
    "--fault-rate", type=float, default=0.0, show_default=True, help="Share of answers that go wrong, 0 to 1."
)
@click.option(
    "--override", multiple=True, help="SYMBOL:DATE:FIELD=TOKEN changes one record, such as AAPL:2005-02-28:close=50."
)
def sandbox(port: int, seed: int | None, fault_rate: float, override: tuple[str, ...]) -> None:
    """Serve the vendor's API with real records, faults and limits, on this machine. It accepts the key sandbox-key.

    \b
    Example:
      assay sandbox --port 8321 --seed 1 --fault-rate 0.1
    """
    os.execv(sys.executable, _sandbox_command(port, seed, fault_rate, override))  # noqa: S606 - our own module


def _sandbox_command(port: int, seed: int | None = None, rate: float = 0.0, override: Sequence[str] = ()) -> list[str]:
    command = [sys.executable, "-m", "assay_sandbox", "--port", str(port)]
    if seed is not None or rate:
        command += ["--seed", str(seed or 0), "--fault-rate", str(rate)]
    for one in override:
        command += ["--override", one]
    return command


@cli.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default="demo-lake",
    show_default=True,
    help="The demo's lake; made if it is not there.",
)
@click.option("--once", is_flag=True, help="Stop after the first number came over HTTP.")
@click.option(
    "--port", default=8320, show_default=True, type=click.IntRange(0, 65535), help="Where the console listens."
)
@click.option(
    "--sandbox-port", default=8321, show_default=True, type=click.IntRange(1, 65535), help="Where the sandbox listens."
)
@click.option("--override", multiple=True, help="SYMBOL:DATE:FIELD=TOKEN changes one of the sandbox's records.")
@click.pass_context
def demo(
    ctx: click.Context, directory: Path, once: bool, port: int, sandbox_port: int, override: tuple[str, ...]
) -> None:
    """The whole platform on real records: sandbox, land, refine, build, serve; then a number and why it is that number.

    \b
    Examples:
      assay demo                 then open the address it ends with
      assay demo --once          for scripts: exits 0 after the first number
    """
    say = ctx.obj["say"]
    started = time.monotonic()
    os.environ.setdefault("ASSAY_SECRET_FMP_API_KEY", "sandbox-key")
    with first.vendor(_sandbox_command(sandbox_port, override=override)) as address:
        say(f"sandbox: {address}")
        if not (directory / "assay.toml").exists():
            run.init(directory, example_lake("markets"))
        path = directory / "assay.toml"
        text, found = re.subn(
            r'(base_url = ")http://127\.0\.0\.1:\d+',
            rf"\g<1>http://127.0.0.1:{sandbox_port}",
            path.read_text(),
            count=1,
        )
        if not found:
            raise UsageError(
                f"{path} asks no sandbox: it is a lake of your own; `assay --lake {directory} apply` works on it"
            )
        path.write_text(text)
        lake = run.open(directory, ctx.obj["env"])
        try:
            if override:
                first.land_again(lake, override, say)
            _raise(run.apply(lake, run.plan(lake), say=say).errors)
            shown = first.first_number(lake)
            with run.serving(lake, "127.0.0.1", port) as console:
                got = first.fetch(console + shown["path"])
                click.echo(f"{shown['title']}: {got['data'][0][shown['column']]}")
                click.echo(first.why(lake, shown))
                click.echo(f"first number after {time.monotonic() - started:.1f} s · console: {console}")
                if not once:
                    _until_interrupted()
        finally:
            lake.close()


def _until_interrupted() -> None:
    click.echo("serving until interrupted (Ctrl-C)", err=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


if __name__ == "__main__":
    main()
