"""The command line: each help shows an example, each error is one sentence with its exit code, data stays on standard output."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import duckdb
import httpx
import pytest

from assay import cli, errors
from assay.lake import bronze
from assay.run import lake as lakes
from tests import forked
from tests.forked import Said
from tests.kept import Kept, begun

TRADES = "files/trades.csv"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """The lake `assay init` makes, nothing landed."""
    return begun(tmp_path / "lake", "csv")


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    """That lake with its first release; not below pytest's directory, whose modes another session's start sets back."""
    with tempfile.TemporaryDirectory() as directory:
        one = Kept(Path(directory) / "lake")
        begun(one.root, "csv")
        _ready(one.root, "apply")
        one.keep("released")
        yield one


@pytest.fixture
def released(kept: Kept) -> Path:
    """That lake as it was after its first release."""
    return kept.begin("released")


def commands(
    group: click.Group = cli.cli, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    for name, one in group.commands.items():
        yield (*prefix, name), one
        if isinstance(one, click.Group):
            yield from commands(one, (*prefix, name))


@pytest.mark.parametrize(
    "words", [words for words, one in commands() if not isinstance(one, click.Group)], ids=" ".join
)
def test_every_help_says_what_it_does_and_shows_an_example(assay: Callable[..., Said], words: tuple[str, ...]) -> None:
    said = assay(*words, "--help")
    assert said.code == 0
    usage, purpose = said.out.split("\n\n")[:2]
    assert usage.startswith("Usage: ")
    assert purpose.strip().endswith(".")
    examples = re.findall(r"^ +(assay .*)$", said.out, re.MULTILINE)
    assert examples, f"assay {' '.join(words)} --help shows no example"
    assert any(" ".join(words) in one for one in examples)
    for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)(.*(?:\n {6,}.*)*)", said.out, re.MULTILINE):
        assert re.search(r"[A-Za-z]{3}.*\.", re.sub(r"\[default: .*?\]", "", option[1])), f"{option[0]} has no sentence"


def test_the_groups_help_lists_every_command_and_exit_code(assay: Callable[..., Said]) -> None:
    said = assay("--help")
    for words, _ in commands():
        assert words[0] in said.out
    codes = {
        one.exit_code for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.AssayError)
    }
    listed = said.out.partition("Exit codes:")[2]
    assert {int(n) for n in re.findall(r"\b(\d+) ", listed)} == codes | {0}


# ------------------------------------------------------------------ each class of error, reached through a command


def _no_lake(lake: Path) -> list[object]:
    (lake / "assay.toml").unlink()
    return ["status"]


def _bad_contract(lake: Path) -> list[object]:
    path = lake / "contracts/trades.yaml"
    text = path.read_text().replace("primaryKey: true", "primaryKey: false")
    path.write_text(re.sub(r"\n *primaryKeyPosition: 1", "", text))
    return ["check"]


def _busy(lake: Path) -> list[object]:
    _http(lake, "http://127.0.0.1:1/v1")
    return ["apply"]


def _http(lake: Path, base: str) -> None:
    """The lake's rows come over HTTP from now on."""
    (lake / "assay.toml").write_text(
        f'[source.fmp]\nbase_url = "{base}"\norigin = "synthetic"\nallow_private = true\noptions = {{attempts = 1}}\n'
    )
    path = lake / "contracts/trades.yaml"
    path.write_text(path.read_text().replace("value: files", "value: fmp").replace("trades.csv", "trades"))


def _refused(lake: Path) -> list[object]:
    (lake.parent / "elsewhere.csv").write_text("trade_id\n1\n")
    (lake / TRADES).unlink()
    (lake / TRADES).symlink_to(lake.parent / "elsewhere.csv")
    return ["apply"]


def _key_refused(lake: Path) -> list[object]:
    (lake / "keyed").mkdir()
    (lake / "keyed/__init__.py").write_text("")
    (lake / "keyed/api.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from assay.errors import KeyRefused\n"
        "from assay.land.source import Source\n"
        "@asynccontextmanager\n"
        "async def connect(secrets, settings):\n"
        "    yield None\n"
        "async def fetch(ask, remote):\n"
        "    raise KeyRefused('the vendor knows no such key')\n"
        "    yield\n"
        "source = Source(connect, fetch, '1')\n"
    )
    contract = lake / "contracts/trades.yaml"
    contract.write_text(contract.read_text().replace("value: files", "value: keyed.api"))
    settings = lake / "assay.toml"
    settings.write_text(settings.read_text().replace("[source.files]", '[source."keyed.api"]'))
    return ["apply"]


def _suspect(lake: Path) -> list[object]:
    (lake / TRADES).unlink()
    return ["apply"]


def _held(lake: Path) -> list[object]:
    rows = "".join(f"X-{n},2024-01-0{n % 9 + 1},IBM,10,{-5 if n < 20 else 5}\n" for n in range(30))
    (lake / TRADES).write_text("trade_id,date,symbol,quantity,price\n" + rows)
    return ["apply", "trades"]


def _damaged(lake: Path) -> list[object]:
    _ready(lake, "apply", "trades")
    [part] = lake.glob("data/dev/bronze/trades/dt=*/*.ndjson.gz")
    part.chmod(0o600)
    part.write_bytes(part.read_bytes()[:-9])
    return ["verify", "bronze"]


def _not_built(lake: Path) -> list[object]:
    path = lake / "dbt/models/gold/mart_position.sql"
    path.write_text(path.read_text().replace("symbol,", "'ALL' as symbol,", 1))
    return ["apply"]


def _fires(lake: Path) -> list[object]:
    """A landing failed, and an alert of it is nobody's to tell."""
    path = lake / "assay.toml"
    (lake / "secrets").mkdir()
    (lake / "secrets/HOOK").touch(0o600)
    (lake / "secrets/HOOK").write_text("http://127.0.0.1:1/")
    path.write_text(f'{path.read_text()}[alert.desk]\nwhen = ["failing"]\nwebhook = "HOOK"\n')
    (lake / TRADES).rename(lake / "aside.csv")
    _ready(lake, "apply", "trades")
    return ["alerts"]


def _not_told(lake: Path) -> list[object]:
    """It is over, and the webhook is down."""
    _fires(lake)
    _ready(lake, "alerts", "--send")
    (lake / "aside.csv").rename(lake / TRADES)
    _ready(lake, "apply", "trades")
    return ["alerts", "--send"]


def _ready(lake: Path, *args: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--lake", str(lake), "--quiet", *args])


def _newer(lake: Path) -> list[object]:
    (lake / "data/dev/bronze/_format").mkdir(parents=True)
    (lake / "data/dev/bronze/_format/0099.json").write_bytes(b"{}")
    return ["status"]


REACHED: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "SettingsError": (_no_lake, "it has no assay.toml; `assay init"),
    "ContractError": (_bad_contract, r"trades\.yaml:\d+: no column has primaryKey: true"),
    "UsageError": (lambda _: ["land", "prices"], "no dataset 'prices'; this lake has trades"),
    "SourceBusy": (_busy, "127.0.0.1 did not answer completely"),
    "SourceRefused": (_refused, r"trades\.csv is a link that leads out of"),
    "KeyRefused": (_key_refused, "the vendor knows no such key"),
    "SourceSuspect": (_suspect, r"no file of .*files is called trades\.csv"),
    "GateClosed": (_held, "1 batch is held: `assay status` says why"),
    "LakeDamaged": (_damaged, "is not what was written; restore it from a copy"),
    "WrongFormat": (_newer, r"has format 99, made by a newer assay; this is assay \d"),
    "BuildFailed": (_not_built, "gold was not built; nothing is released yet"),
    "AlertFiring": (_fires, "1 alert fires"),
    "WebhookFailed": (_not_told, "alert desk: webhook HOOK gave no answer within 10 s: Connection refused; it is kept"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "BuildFailed" else []) for name in REACHED]
)
def test_every_error_is_one_sentence_and_its_exit_code(lake: Path, assay: Callable[..., Said], name: str) -> None:
    reach, words = REACHED[name]
    args = reach(lake)
    said = assay("--lake", lake, "--quiet", *args)
    assert said.code == getattr(errors, name).exit_code
    assert said.err.startswith(f"{name}: "), said.err
    assert re.search(words, said.err), said.err
    assert "Traceback" not in said.err
    assert "BuildFailed" in said.err or said.err.count("\n") == 1, said.err


def _paused(tmp_path: Path, process: forked.Forked) -> None:
    """Wait until a process waits at its ASSAY_PAUSE."""
    while not list(tmp_path.glob("go.*.waiting")):
        assert process.poll() is None, process.said().err
        time.sleep(0.01)


def _heard(pid: int) -> None:
    """Wait until no signal waits for a process: on a busy machine it might go on before it is told to stop."""
    while [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith(("SigPnd", "ShdPnd")) and int(line.split()[1], 16)
    ]:
        time.sleep(0.01)


def test_the_second_of_two_that_land_is_told_at_once_that_it_is_busy(
    lake: Path, assay: Callable[..., Said], tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    with forked.assay(lake, "--quiet", "land", "trades", ASSAY_PAUSE=f"land.part:{gate}") as slow:
        _paused(tmp_path, slow)
        second = assay("--lake", lake, "land", "trades")
        gate.touch()
        first = slow.said()
    assert second.code == errors.LakeBusy.exit_code
    assert "LakeBusy: trades 'all'" in second.err, second.err
    assert "another run is landing it" in second.err
    assert (first.code, first.err) == (0, "")
    assert assay("--lake", lake, "land", "trades").out == "0 batches, 0 rows\n"


def test_every_class_of_error_is_reached_here() -> None:
    classes = {
        name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.AssayError)
    }
    assert classes - {"AssayError", "SourceError", "CommitUnknown"} == {*REACHED, "LakeBusy"}


def test_a_traceback_only_with_debug(lake: Path) -> None:
    with forked.assay(lake, "land", "prices") as quiet, forked.assay(lake, "--debug", "land", "prices") as loud:
        short, long = quiet.said().err, loud.said().err
    assert short == "UsageError: no dataset 'prices'; this lake has trades\n"
    assert "Traceback" in long
    assert long.rstrip().endswith("UsageError: no dataset 'prices'; this lake has trades")


SETTINGS = '[lake]\nname = "small"\n[source.files]\nbase_url = "file:files"\norigin = "synthetic"\n'


def test_the_settings_that_the_mistakes_are_put_into_have_none(lake: Path, assay: Callable[..., Said]) -> None:
    (lake / "assay.toml").write_text(SETTINGS)
    assert assay("--lake", lake, "plan").code == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[lake]", "[lake", "not TOML"),
        ("[lake]", "[lak]", r"\[lak\] means nothing"),
        ("name =", "nam =", r"lake\.nam means nothing"),
        ("origin =", "orign =", r"source\.files\.orign means nothing"),
        ('"synthetic"', '"mine"', "must say whose records these are"),
        ('base_url = "file:files"', "", "base_url is missing"),
        ("[lake]", '[lake]\nthreads = "many"', "threads must be"),
        ("[lake]", "[lake]\nthreads = 0", "threads must be"),
        ("[lake]", '[lake]\nmemory = "lots"', "memory must be"),
        ("[lake]", "[lake]\ndata = 3", "data must be"),
        ('[lake]\nname = "small"', "lake = 3", "lake must be"),
        ("origin", "requests = 0\norigin", "requests must be"),
        ("origin", 'per = "a minute"\norigin', "per must be"),
        ("origin", "options = 3\norigin", "options must be"),
        ("origin", 'allow_private = "yes"\norigin', "allow_private must be"),
    ],
)
def test_every_mistake_in_the_settings_is_a_settings_error(
    lake: Path, assay: Callable[..., Said], old: str, new: str, words: str
) -> None:
    assert old in SETTINGS
    (lake / "assay.toml").write_text(SETTINGS.replace(old, new, 1))
    said = assay("--lake", lake, "plan")
    assert said.code == 2, said
    assert said.err.startswith("SettingsError: "), said.err
    assert re.search(words, said.err), said.err


# ------------------------------------------------------------------ what a script reads


def test_results_are_data_on_standard_output_and_progress_is_not(lake: Path, assay: Callable[..., Said]) -> None:
    planned = json.loads(assay("--lake", lake, "--json", "plan").out)
    assert [one["step"].split()[0] for one in planned["steps"]] == ["land", "refine", "build"]
    assert {k: planned["cost"][k] for k in ("calls", "minutes", "bytes")} == {
        "calls": 1,
        "minutes": pytest.approx(1 / 300),
        "bytes": None,
    }
    done = assay("--lake", lake, "--json", "apply")
    found = json.loads(done.out)
    assert (found["landed"], found["rows"], found["held"], found["release"], found["errors"]) == (1, 10, 0, 1, [])
    assert "landed trades all" in done.err
    assert json.loads(assay("--lake", lake, "--json", "plan").out)["steps"] == []
    status = json.loads(assay("--lake", lake, "--json", "status").out)
    assert status["datasets"]["trades"]["accepted"] == 10
    assert json.loads(assay("--lake", lake, "--json", "verify", "counts").out) == {
        "batches": 1,
        "captured": 10,
        "unjudged": 0,
    }
    assert json.loads(assay("--lake", lake, "--json", "verify", "rebuild").out) == {"trades": 10}
    why = json.loads(assay("--lake", lake, "--json", "explain", "mart_position", "symbol=AAPL", "--column", "cost").out)
    assert (why["value"], why["recomputed"]["equal"], len(why["records"])) == ("16490.100000", True, 3)
    query = "select symbol, cost from gold.mart_position order by 1 limit 2"
    assert (
        assay("--lake", lake, "sql", query, "--format", "csv").out
        == "symbol,cost\nAAPL,16490.100000\nIBM,17620.750000\n"
    )
    assert json.loads(assay("--lake", lake, "sql", query, "--format", "json").out)[1] == {
        "symbol": "IBM",
        "cost": "17620.750000",
    }
    assert assay("--lake", lake, "sql", query).out.splitlines()[0].split() == ["symbol", "cost"]
    told = "select true as yes, null as nothing, false as no"
    assert assay("--lake", lake, "sql", told, "--format", "csv").out == "yes,nothing,no\ntrue,,false\n"
    assert assay("--lake", lake, "sql", told).out.splitlines()[2].split() == ["true", "false"]
    quiet = assay("--lake", lake, "--quiet", "land", "trades", "--again")
    assert (quiet.err, quiet.out) == ("", "1 batch, 10 rows\n")


def test_a_group_without_a_word_shows_its_commands(assay: Callable[..., Said]) -> None:
    for words in ((), ("verify",), ("quarantine",)):
        said = assay(*words)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("Usage: ")
        assert "\n\nCommands:\n" in said.err


def test_what_is_landed_and_not_judged_is_counted_as_that(lake: Path, assay: Callable[..., Said]) -> None:
    assert assay("--lake", lake, "land", "trades").code == 0
    told = assay("--lake", lake, "status").out
    assert "trades: 1 batch, 10 captured = 0 accepted + 0 quarantined + 0 held + 10 not judged yet; newest" in told
    assert "not judged yet: 1 batch; `assay apply` does" in told
    assert assay("--lake", lake, "refine", "trades").code == 0
    assert (
        "trades: 1 batch, 10 captured = 10 accepted + 0 quarantined + 0 held; newest"
        in assay("--lake", lake, "status").out
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_says_so_and_ends_well(lake: Path, number: int) -> None:
    with forked.assay(lake, "serve", "--port", "0") as server:
        while "console: " not in server.heard():
            assert server.poll() is None, server.said()
            time.sleep(0.02)
        address = server.heard().partition("console: ")[2].split()[0]
        assert httpx.get(address, timeout=60).status_code == 200  # its event loop runs, and has the signals
        os.kill(server.pid, number)
        said = server.said(60)
    assert (said.code, said.out) == (0, "")
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["console", "stopped"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_below_what_is_printed_is_told_and_hides_no_exit_code(lake: Path) -> None:
    def run(**where: object) -> subprocess.CompletedProcess[str]:
        words = [
            sys.executable,
            "-m",
            "assay.cli",
            "--lake",
            str(lake),
            *("status" if "stdout" in where else "no-such",),
        ]
        return subprocess.run(words, text=True, check=False, **({"stdout": -1, "stderr": -1} | where))  # type: ignore[call-overload]

    with Path("/dev/full").open("w") as full:
        said = run(stdout=full)
        assert (said.returncode, said.stderr) == (1, "OSError: No space left on device; --debug shows where\n")
        assert run(stderr=full).returncode == 2


def test_a_port_that_is_taken_or_none_is_the_callers_error(lake: Path, assay: Callable[..., Said]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = assay("--lake", lake, "serve", "--port", taken.getsockname()[1])
        assert (said.code, "is taken" in said.err) == (2, True), said
    assert assay("--lake", lake, "serve", "--port", 70000).code == 2


@pytest.mark.slow
def test_a_table_that_was_cut_says_so_and_csv_and_json_are_whole(released: Path, assay: Callable[..., Said]) -> None:
    rows = "select a.trade_id from silver.trades a, silver.trades b, silver.trades c, silver.trades d"
    table = assay("--lake", released, "sql", rows)
    assert (table.code, len(table.out.splitlines())) == (0, 1002)
    assert table.err == "these are the first 1000 rows, there are more; --limit gives them\n"
    whole = assay("--lake", released, "sql", rows, "--format", "csv")
    assert (len(whole.out.splitlines()), whole.err) == (10_001, "")
    assert len(json.loads(assay("--lake", released, "--json", "sql", rows).out)) == 10_000
    assert "first 2 rows" in assay("--lake", released, "sql", rows, "--format", "csv", "--limit", 2).err


@pytest.mark.slow
def test_a_query_that_never_ends_is_stopped_and_tells_nothing(released: Path, assay: Callable[..., Said]) -> None:
    endless = f"select count(*) from {', '.join(f'silver.trades t{n}' for n in range(12))} where t0.price < t1.price + t2.price"
    said = assay("--lake", released, "sql", endless, "--timeout", 1.5)
    assert (said.code, said.out) == (2, "")
    assert said.err == "UsageError: stopped after 1.5 s; narrow the query, by its key first\n"


@pytest.mark.parametrize(("form", "empty"), [("table", "n\n─"), ("csv", "n"), ("json", "[]")])
def test_an_answer_without_rows_is_one_too(released: Path, assay: Callable[..., Said], form: str, empty: str) -> None:
    query = "select quantity as n from silver.trades where price < 0"
    assert assay("--lake", released, "sql", query, "--format", form).out.strip() == empty


def test_json_of_a_query_loses_no_column_and_is_json(released: Path, assay: Callable[..., Said]) -> None:
    said = assay("--lake", released, "--json", "sql", "select 1 a, 2 a")
    assert (said.code, json.loads(said.err)["error"]) == (2, "UsageError")
    assert "two columns are called a" in said.err
    found = assay("--lake", released, "--json", "sql", "select cast('nan' as double) x, cast('-inf' as double) y").out
    assert json.loads(found, parse_constant=pytest.fail) == [{"x": None, "y": None}]


def test_data_cannot_steer_the_terminal(released: Path, assay: Callable[..., Said]) -> None:
    said = assay("--lake", released, "sql", "select '\x1b]0;mine\x07' a, 'b\rc' b")
    assert said.out.splitlines()[2].split() == ["\\x1b]0;mine\\x07", "b\\rc"]


@pytest.mark.slow
def test_rows_of_a_held_batch_can_be_seen_and_a_newer_landing_takes_its_place(
    lake: Path, assay: Callable[..., Said]
) -> None:
    good = (lake / TRADES).read_text()
    REACHED["GateClosed"][0](lake)
    assert assay("--lake", lake, "--quiet", "apply").code == 4
    status = assay("--lake", lake, "status").out
    assert re.search(r"held \d+\.\d+: \d+ of 30 rows are bad: more than .* percent \(price_positive \d+\)", status), (
        status
    )
    assert "assay land trades --again" in status
    listed = assay("--lake", lake, "quarantine", "list", "trades").out.splitlines()
    assert len(listed) == int(re.search(r"(\d+) of 30 rows are bad", status)[1])
    assert all("(held) #" in line for line in listed)
    assert not list((lake / "data/dev/quarantine").rglob("*.gz"))
    (lake / TRADES).write_text(good)
    assert assay("--lake", lake, "--quiet", "land", "trades", "--again").code == 0
    assert assay("--lake", lake, "--quiet", "apply").code == 0
    status = assay("--lake", lake, "status").out
    assert "30 of the held rows were landed again since, and passed" in status
    assert "rows are bad" not in status


@pytest.mark.slow
def test_a_lake_that_was_moved_says_what_to_do(released: Path, assay: Callable[..., Said], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(released, moved)
    said = assay("--lake", moved, "refine", "trades")
    assert said.code == errors.LakeDamaged.exit_code
    assert said.err.startswith("LakeDamaged: this lake was moved"), said.err
    kept = {"bronze", "contracts"}
    assert kept <= {one.name for one in (moved / "data/dev").iterdir()}
    for one in (moved / "data/dev").iterdir():
        if one.name not in kept:
            shutil.rmtree(one) if one.is_dir() else one.unlink()
    assert assay("--lake", moved, "--quiet", "apply").code == 0
    assert assay("--lake", moved, "verify", "counts").out == "1 batch, 10 rows: every place agrees\n"


def test_an_environment_typed_wrong_is_no_new_one(released: Path, assay: Callable[..., Said]) -> None:
    assert assay("--lake", released, "status").code == 0
    said = assay("--lake", released, "--env", "prod", "status")
    assert (said.code, said.err.startswith("UsageError: there is no data of environment 'prod'; there is dev")) == (
        2,
        True,
    )
    assert not (released / "data/prod").exists()


def test_a_plan_refuses_what_applying_it_would(released: Path, assay: Callable[..., Said]) -> None:
    path = released / "contracts/trades.yaml"
    assert "decimal(18,6)" in path.read_text()
    path.write_text(path.read_text().replace("decimal(18,6)", "decimal(18,7)"))
    said = assay("--lake", released, "plan")
    assert said.code == 2
    assert "readers would break" in said.err


def test_an_explanation_that_does_not_hold_is_an_error(released: Path, assay: Callable[..., Said]) -> None:
    served = next((released / "data/dev/serving").glob("mart_position-*.duckdb"))
    with duckdb.connect(str(served)) as con:
        con.execute("UPDATE mart_position SET cost = 1 WHERE symbol = 'AAPL'")
    said = assay("--lake", released, "explain", "mart_position", "symbol=AAPL", "--column", "cost")
    assert said.code == errors.LakeDamaged.exit_code
    assert "DIFFERENT" in said.out
    assert "is not what its input rows give" in said.err


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "a shell's background job"])
def test_a_terminated_command_ends_as_an_interrupted_one(lake: Path, tmp_path: Path, *, background: bool) -> None:
    """What was complete is put; a background job ignores an interrupt, and hears this one all the same."""
    gate = tmp_path / "go"

    def act() -> None:
        if background:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        cli.main(["--lake", str(lake), "--quiet", "land", "trades"])

    with forked.Forked(act, ASSAY_PAUSE=f"land.part:{gate}") as slow:
        _paused(tmp_path, slow)
        if background:
            os.kill(slow.pid, signal.SIGINT)
        os.kill(slow.pid, signal.SIGTERM)
        _heard(slow.pid)
        gate.touch()
        said = slow.said()
    assert (said.code, said.err.strip()) == (143, "stopped; what was committed stays, the rest is planned again")
    with lakes.open(lake) as opened:
        assert opened.status()["datasets"]["trades"]["batches"] == 1


def test_a_command_that_only_lands_imports_nothing_of_tables(lake: Path) -> None:
    code = "import sys; from assay import cli\ntry: cli.main(sys.argv[1:])\nexcept SystemExit as end: print(end.code, *sys.modules)"
    program = [sys.executable, "-c", code, "--lake", str(lake), "--quiet", "land", "trades"]
    code, *modules = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()
    assert code == "0"
    # DuckDB is: it computes the contract's rules over no rows before a source is asked.
    assert not {"pyiceberg", "pyarrow", "sqlalchemy", "dbt"} & {*modules}


# ------------------------------------------------------------------ decisions, and what is failing


def _batch(lake: Path, number: int) -> str:
    """A batch that is held, as people see it; landed with so many bad rows of 30."""
    rows = "".join(f"X-{n},2024-01-0{n % 9 + 1},IBM,10,{-5 if n < number else 5}\n" for n in range(30))
    (lake / TRADES).write_text("trade_id,date,symbol,quantity,price\n" + rows)
    _ready(lake, "land", "trades", "--again")
    with lakes.open(lake) as opened:
        opened.refine("trades")
        [batch] = opened.status()["datasets"]["trades"]["held_batches"]
    return str(batch)


def test_a_held_batch_is_decided_about(released: Path, assay: Callable[..., Said]) -> None:
    batch = _batch(released, 20)
    assert assay("--lake", released, "decide", "release", "trades", batch).code == 2  # no reason
    said = assay("--lake", released, "decide", "release", "trades", "no batch", "--why", "x", "--who", "me")
    assert (said.code, said.err) == (
        2,
        "UsageError: 'no batch' is no batch; `assay status` and the console show them as 1260.17\n",
    )
    said = assay("--lake", released, "decide", "release", "trades", "999.0", "--why", "x", "--who", "me")
    assert (said.code, said.err) == (2, "UsageError: act 1: trades has no batch 999.0\n")
    again = assay("--lake", released, "decide", "rejudge", "trades", batch, "--why", "look again", "--who", "me")
    assert (again.code, "20 of 30 rows are bad" in again.err) == (errors.GateClosed.exit_code, True)
    said = assay("--lake", released, "decide", "release", "trades", batch, "--why", "the broker says so", "--who", "me")
    assert (said.code, said.out) == (
        0,
        "30 captured = 10 new + 0 changed + 0 unchanged + 20 quarantined + 0 held; 0 withdrawn; withdrawals of 1 batch are held\n",
    ), said
    status = assay("--lake", released, "status").out
    assert "40 captured = 20 accepted + 20 quarantined + 0 held" in status
    assert f"held {batch}" not in status
    assert len(assay("--lake", released, "quarantine", "list", "trades", "--limit", 99).out.splitlines()) == 20
    assert assay("--lake", released, "quarantine", "replay", "trades").out == "nothing new\n"
    for proof in ("counts", "bronze", "silver", "serving", "rebuild"):
        assert assay("--lake", released, "verify", proof).code == 0
    assert assay("--lake", released, "apply").code == 0
    why = assay("--lake", released, "explain", "mart_position", "symbol=IBM", "--column", "quantity")
    assert (why.code, "decided by me: release, the broker says so" in why.out) == (0, True), why


def test_a_refine_says_what_it_changed(lake: Path, assay: Callable[..., Said]) -> None:
    _ready(lake, "land", "trades")
    said = assay("--lake", lake, "refine", "trades").out
    assert said == "10 captured = 10 new + 0 changed + 0 unchanged + 0 quarantined + 0 held; 0 withdrawn\n"
    header, first, _, _, *rest = (lake / TRADES).read_text().splitlines()
    bad = "T-0002,2024-01-03,MSFT,0,370.87"
    (lake / TRADES).write_text("\n".join([header, f"{first}1", bad, *rest, "T-0011,2024-02-21,IBM,1,1", first + "1"]))
    _ready(lake, "land", "trades", "--again")
    said = assay("--lake", lake, "--json", "refine", "trades").out
    counts = {name: n for name, n in json.loads(said)["counts"].items() if n}
    assert counts == {"accepted": 2, "changed": 1, "unchanged": 7, "duplicate": 1, "quarantined": 1, "withdrawn": 1}
    said = assay("--lake", lake, "refine", "trades", "--rebuild").out
    assert said == (
        "the whole log anew: 21 captured = 11 new + 1 changed + 7 unchanged + 1 duplicate + 1 quarantined + 0 held; 1 withdrawn\n"
    )
    (lake / TRADES).write_text(f"{header}\n{first}\n")
    _ready(lake, "land", "trades", "--again")
    said = assay("--lake", lake, "apply", "trades")
    assert "  `assay status` names them, and the decision that lets them go" in said.err.splitlines()
    status = assay("--lake", lake, "status").out.splitlines()
    [line] = [one for one in status if "withdrawals of" in one]
    assert "what it lacks is still readable: assay decide withdraw trades 5.0 --why …" in line
    assert assay("--lake", lake, "decide", "withdraw", "trades", "5.0", "--why", "sold", "--who", "me").code == 0
    status = assay("--lake", lake, "status").out.splitlines()
    assert not [one for one in status if "withdrawals of" in one]
    assert (
        "  10 keys withdrawn: silver.trades_versions has what was said of them, recorded_to until when it held"
        in status
    )


def test_a_rejected_row_says_what_is_current_of_its_key(lake: Path, assay: Callable[..., Said]) -> None:
    header, first, second, *rest = (lake / TRADES).read_text().splitlines()
    _ready(lake, "land", "trades")
    bad = [
        f"{first.rpartition(',')[0]},-1",
        f"{second.rpartition(',')[0]},x",
        "T-0099,2024-01-03,IBM,0,1",
        ",2024-01-03,IBM,1,1",
    ]
    (lake / TRADES).write_text("\n".join([header, *bad, *rest, *(f"N-{n},2024-01-03,IBM,1,1" for n in range(90))]))
    assert assay("--lake", lake, "apply", "trades").code == 0

    def marks() -> dict[str, object]:
        rows = json.loads(assay("--lake", lake, "--json", "quarantine", "list", "trades").out)
        return {json.loads(row["line"])["_record"]["trade_id"]: row["current"] for row in rows}

    older = {"batch": "2.0", "newer": False}
    assert marks() == {"T-0001": older, "T-0002": older, "T-0099": None, "": None}
    (lake / TRADES).write_text("\n".join([header, first.replace("100", "101"), *bad[1:], *rest]))
    _ready(lake, "land", "trades")
    assert assay("--lake", lake, "refine", "trades").code == 0
    listed = assay("--lake", lake, "quarantine", "list", "trades").out.splitlines()
    said = [re.sub(r"^trades (\S+) #\d+ .*?(\(.*?\))?: .*", r"\1 \2", line) for line in listed]
    assert said == [
        "3.0 (mended since by 4.0)", "3.0 (current is the older row of 2.0)", "3.0 ", "3.0 ",
        "4.0 (current is the older row of 2.0)", "4.0 ", "4.0 ",
    ]  # fmt: skip


def test_drift_is_told_when_it_comes_and_while_it_lasts(lake: Path, assay: Callable[..., Said]) -> None:
    contract, trades = lake / "contracts/trades.yaml", lake / TRADES
    rule = """      - {name: known_symbol, type: custom, engine: assay, implementation: "symbol IN ('AAPL')", severity: warning}"""
    contract.write_text(contract.read_text().replace("    quality:", f"    quality:\n{rule}"))
    lines = trades.read_text().splitlines()

    def told(*command: object) -> list[str]:
        found = assay("--lake", lake, *command)
        assert found.code == 0
        return [line for line in (found.out + found.err).splitlines() if "drift" in line]

    listed = (
        f"  drift: {sum('AAPL' not in one for one in lines[1:])} rows with a value that rule known_symbol does not list"
    )
    assert told("apply", "trades") == []
    assert told("status") == [listed]
    trades.write_text("\n".join([f"{lines[0]},venue", *(f"{one},X\u202e" for one in lines[1:])]))
    day, rows = f"{datetime.now(UTC):%Y-%m-%d}", len(lines) - 1
    said = (
        rf"drift: the field venue is new (string), and no column reads it; since {day} (entry 3), in {rows} records "
        r'looked at, such as "X\u202e"'
    )
    assert told("apply", "trades") == [f"trades: {said}"]
    assert told("status")[0] == f"  {said}"
    trades.write_text("\n".join(f"{one},Y" if n else f"{one},venue" for n, one in enumerate(lines)))
    assert told("apply", "trades") == []
    assert told("verify", "counts") == []
    before = told("status")
    assert before[0].startswith(f"  {said.replace(f'in {rows}', f'in {2 * rows}')}")
    (lake / "data/dev/ledger.db").unlink()
    assert told("status") == before
    venue = "      - {name: venue, logicalType: string, classification: public}"
    contract.write_text(contract.read_text().replace("    quality:", f"{venue}\n    quality:"))
    assert told("apply", "trades") == []
    assert [one for one in told("status") if "venue" in one] == []


def test_what_rules_warn_of_is_told_after_the_refine_and_by_status(lake: Path, assay: Callable[..., Said]) -> None:
    contract = lake / "contracts/trades.yaml"
    text = contract.read_text().replace(
        "- property: every\n", "- property: calendar\n  value: {name: weekdays, severity: warning}\n- property: every\n"
    )
    key = "        logicalType: date\n        required: true\n"
    contract.write_text(text.replace(key, f"{key}        primaryKey: true\n        primaryKeyPosition: 2\n"))
    with (lake / TRADES).open("a") as file:
        file.write("T-0100,2024-01-06,IBM,1,1\nT-0101,2024-01-07,IBM,1,1\n")
    assert "  warned of date:calendar 2" in assay("--lake", lake, "apply", "trades").err.splitlines()
    assert "  warned of in all answers so far: date:calendar 2" in assay("--lake", lake, "status").out.splitlines()
    told = json.loads(assay("--lake", lake, "--json", "status").out)["datasets"]["trades"]
    assert (told["warnings"], told["accepted"], told["quarantined"]) == ({"date:calendar": 2}, 12, 0)


def test_sessions_without_a_row_are_told_when_they_appear_and_until_they_are_there(
    lake: Path, assay: Callable[..., Said]
) -> None:
    contract, trades, calendar = lake / "contracts/trades.yaml", lake / TRADES, lake / "calendars/mine.csv"
    calendar.parent.mkdir()
    calendar.write_text("day,closes\n2024-01-01..2024-01-11,16:00 America/New_York\n2024-01-05,\n2024-01-09,13:00\n")
    text = contract.read_text().replace(
        "- property: every\n", "- property: calendar\n  value: mine\n- property: every\n"
    )
    key = "        logicalType: date\n        required: true\n"
    assert text.count(key) == 1
    contract.write_text(text.replace(key, f"{key}        primaryKey: true\n        primaryKeyPosition: 2\n"))

    def told(*command: object) -> list[str]:
        found = assay("--lake", lake, *command)
        assert found.code == 0
        return [line for line in (found.out + found.err).splitlines() if "holes:" in line]

    said = "holes: 2 sessions of mine without a row, such as 2024-01-04, 2024-01-09"
    assert told("apply", "trades") == [f"  new {said}"]
    assert told("status") == [f"  {said}"]
    held = json.loads(assay("--lake", lake, "--json", "status").out)
    assert held["datasets"]["trades"]["holes"]["shards"] == {"all": ["2024-01-04", "2024-01-09"]}
    assert (
        held["ending"] == [line for line in assay("--lake", lake, "check").out.splitlines() if "mine.csv" in line] != []
    )
    assert (
        "  calendar mine: 2024-01-01..2024-01-11, 1 weekday without a session, 1 half day"
        in assay("--lake", lake, "contract", "trades").out.splitlines()
    )
    rows = trades.read_text()
    trades.write_text(f"{rows}T-0100,2024-01-04,IBM,1,1\nT-0101,2024-01-05,IBM,1,1\n")
    assert told("apply", "trades") == []
    assert told("status") == ["  holes: 1 session of mine without a row, such as 2024-01-09"]
    assert "trades 3.0 #11 date:calendar" in assay("--lake", lake, "quarantine", "list").out
    trades.write_text(rows.replace("T-0003,2024-01-08", "T-0003,2024-01-02"))
    assert told("apply", "trades") == ["  new holes: 2 sessions of mine without a row, such as 2024-01-04, 2024-01-08"]
    calendar.write_text(calendar.read_text().replace("2024-01-09,13:00\n", "2024-01-09,\n"))
    assert told("plan") == []
    assert told("status") == ["  holes: 2 sessions of mine without a row, such as 2024-01-04, 2024-01-08"]
    assert assay("--lake", lake, "verify", "counts").code == 0


@pytest.mark.parametrize("complete", ["true", "false"])
def test_a_list_that_shrank_is_told(lake: Path, assay: Callable[..., Said], complete: str) -> None:
    contract = lake / "contracts/trades.yaml"
    contract.write_text(contract.read_text().replace("complete\n  value: true", f"complete\n  value: {complete}"))
    lines = (lake / TRADES).read_text().splitlines()

    def told(*more: str, rows: int) -> list[str]:
        (lake / TRADES).write_text("\n".join([*lines[: rows + 1], *more]))
        assert assay("--lake", lake, "apply", "trades").code == 0
        return [line for line in assay("--lake", lake, "status").out.splitlines() if "shrank" in line]

    assert told(rows=9) == []
    assert told(rows=10) == []
    what = "withdrawn" if complete == "true" else "current still"
    assert told(rows=9) == [f"  the list shrank: 4.0 has 9 rows, 3.0 had 10; what it lacks is {what}"]
    assert told("T-0099,2024-01-03,IBM,1,1", rows=8) == []
    what = "its withdrawals are held" if complete == "true" else "what it lacks is current still"
    assert told(rows=2) == [f"  the list shrank: 6.0 has 2 rows, 5.0 had 9; {what}"]
    (lake / f"data/dev/{bronze.name_of('trades', 5)}").unlink()
    assert "trades: 5 batches" in assay("--lake", lake, "status").out


@pytest.mark.slow
def test_what_is_excluded_is_out_and_asked_again(released: Path, assay: Callable[..., Said]) -> None:
    said = assay("--lake", released, "decide", "exclude", "trades", "2.0", "--why", "a trial", "--who", "me")
    assert said.code == 0, said
    assert "0 accepted" in assay("--lake", released, "status").out
    assert assay("--lake", released, "verify", "rebuild").code == 0
    planned = assay("--lake", released, "plan", "trades").out
    assert planned.startswith("land trades all"), planned


def test_verify_silver_names_the_file_that_was_altered(released: Path, assay: Callable[..., Said]) -> None:
    said = assay("--lake", released, "verify", "silver")
    assert (said.code, said.out) == (0, "1 dataset in 2 objects are what was written\n")
    [file] = (released / "data/dev/warehouse/silver").rglob("*.parquet")
    file.chmod(0o600)
    data = file.read_bytes()
    file.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    said = assay("--lake", released, "verify", "silver")
    assert said.code == errors.LakeDamaged.exit_code
    assert f"{file.name} is not what the refine wrote" in said.err


def test_what_fails_stands_in_the_status_until_it_is_done(lake: Path, assay: Callable[..., Said]) -> None:
    rows = (lake / TRADES).read_text()
    (lake / TRADES).unlink()
    for attempt in (1, 2):
        assert assay("--lake", lake, "--quiet", "apply").code == 3
        status = assay("--lake", lake, "status").out
        assert re.search(
            rf"failed land trades all .*\(attempt {attempt}, .*\): SourceSuspect: trades: no file of", status
        ), status
    (lake / TRADES).write_text(rows)
    assert assay("--lake", lake, "--quiet", "apply", "trades").code == 0
    assert "failed" not in assay("--lake", lake, "status").out


# ------------------------------------------------------------------ a lake put back, or one that may only be read


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["catalog.db*", "ledger.db*", "*.db*"])
def test_a_lake_without_its_databases_serves_its_release_and_is_made_whole(
    released: Path, assay: Callable[..., Said], lost: str
) -> None:
    query = ["sql", "select symbol, cost from gold.mart_position order by 1", "--format", "csv"]
    before = assay("--lake", released, *query)
    status = assay("--lake", released, "status").out
    for one in (released / "data/dev").glob(lost):
        one.unlink()
    assert assay("--lake", released, *query) == before
    done = assay("--lake", released, "--quiet", "apply")
    assert done.code == 0, done
    assert assay("--lake", released, *query) == before
    assert assay("--lake", released, "status").out.splitlines()[:-1] == status.splitlines()[:-1]
    for proof in ("counts", "bronze", "silver", "serving", "rebuild"):
        said = assay("--lake", released, "verify", proof)
        assert said.code == 0, said


NOBODY = 65534
ASKS = {
    "status": (["status"], 0),
    "plan": (["plan"], 0),
    "sql": (["sql", "select count(*) from silver.trades"], 0),
    "explain": (["explain", "mart_position", "symbol=AAPL", "--column", "cost"], 0),
    "quarantine": (["quarantine", "list"], 0),
    "verify counts": (["verify", "counts"], 0),
    "verify bronze": (["verify", "bronze"], 0),
    "verify silver": (["verify", "silver"], 0),
    "verify serving": (["verify", "serving"], 0),
    "verify rebuild": (["verify", "rebuild"], 0),
    "land": (["land", "trades", "--again"], 2),
    "refine": (["refine", "trades", "--rebuild"], 2),
    "decide": (["decide", "exclude", "trades", "2.0", "--why", "x", "--who", "me"], 2),
    "build": (["build"], 2),
}


@pytest.fixture
def readable(kept: Kept) -> Iterator[Path]:
    """The released lake where anybody may read it, and nobody write."""
    kept.begin("released")
    parts = [kept.root.parent, kept.root, *kept.root.rglob("*")]
    for one in parts:
        one.chmod(0o555 if one.is_dir() else 0o444)
    yield kept.root
    for one in parts:
        one.chmod(0o755 if one.is_dir() else 0o644)


@pytest.mark.parametrize("what", ASKS)
def test_a_lake_that_may_only_be_read_answers_and_says_what_it_cannot_do(readable: Path, what: str) -> None:
    args, code = ASKS[what]
    # Free SQL starts a Python, and root's own may be nobody's to start: then it is root that changes nothing.
    startable = all(one.stat().st_mode & 1 for one in Path(sys.executable).resolve().parents)
    user = None if os.getuid() or (what in ("sql", "explain") and not startable) else NOBODY
    before = {one: one.stat().st_mtime_ns for one in readable.rglob("*") if one.is_file()}
    with forked.assay(readable, "--quiet", *args, user=user) as one:
        said = one.said()
    assert said.code == code, said
    assert "Traceback" not in said.err
    if code:
        assert re.search(r"SettingsError: .*(cannot be|may not|permission|read)", said.err, re.IGNORECASE), said.err
    assert {one: one.stat().st_mtime_ns for one in readable.rglob("*") if one.is_file()} == before


# ------------------------------------------------------------------ what a contract promises


INCOMPLETE = ("- property: complete\n  value: true", "- property: complete\n  value: false")


def _promise(lake: Path, *changes: tuple[str, str]) -> None:
    path = lake / "contracts/trades.yaml"
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path.write_text(text)


def test_status_tells_what_was_promised_and_is_not_kept(lake: Path, assay: Callable[..., Said]) -> None:
    late = "[{property: latency, value: 1, unit: s}, {property: frequency, value: 300, unit: days}]"
    ours = "\ncustomProperties:\n- property: source"
    _promise(
        lake,
        (
            ours,
            f"\nslaProperties: {late}\ncustomProperties:\n- {{property: mutability, value: append}}\n- property: source",
        ),
        INCOMPLETE,
    )
    assert assay("--lake", lake, "apply", "trades").code == 0
    assert "changed, though" not in assay("--lake", lake, "status").out
    path = lake / TRADES
    path.write_text(path.read_text().replace("2024-01-03", "2024-01-04", 1))
    assert assay("--lake", lake, "land", "trades", "--again").code == 0
    assert assay("--lake", lake, "apply", "trades").code == 0
    time.sleep(1.1)
    said = assay("--lake", lake, "status").out
    assert "  late: latency: at most PT1S was promised, and the newest landing is 0 h 0 min old" in said
    assert "late: frequency" not in said
    assert "  1 row changed, though mutability: append says that none does" in said
    found = json.loads(assay("--lake", lake, "--json", "status").out)["datasets"]
    assert (len(found["trades"]["late"]), found["trades"]["changed"]) == (1, 1)


@pytest.mark.slow
def test_values_that_rows_of_two_batches_share_are_warned_of_when_gold_is_built(
    lake: Path, assay: Callable[..., Said]
) -> None:
    unit = "customProperties: [{property: unit, value: USD}]"
    _promise(lake, (unit, f"unique: true\n        {unit}"), INCOMPLETE)
    said = assay("--lake", lake, "apply")
    assert said.code == 0
    assert "more than one current row" not in said.err
    path = lake / TRADES
    path.write_text(path.read_text().replace("T-0001", "T-0099"))  # T-0001 stays: the answers are not complete
    assert assay("--lake", lake, "land", "trades", "--again").code == 0
    said = assay("--lake", lake, "apply")
    assert said.code == 0
    assert "warning: silver.trades: price:unique: 1 value stands in more than one current row" in said.err


def test_a_contract_is_shown_with_all_that_it_says(lake: Path, assay: Callable[..., Said]) -> None:
    team = "team: {name: back office, members: [{username: ann, role: owner}]}\n"
    _promise(lake, ("schema:\n", f"{team}tags: [money, mine]\nschema:\n"))
    said = assay("--lake", lake, "contract", "trades").out
    for line in (
        "trades 1.0.0: My trades",
        "  column price: DECIMAL(18,6), required, USD, internal, what a share was traded for",
        "  rule price_positive: price > 0 (error)",
        "  description.limitations: One account, one currency; fees are not in it.",
        "  team.members[0].username: ann",
        "  tags: money, mine",
    ):
        assert line in said.splitlines()
    assert ["tags", "money, mine"] in json.loads(assay("--lake", lake, "--json", "contract", "trades").out)["shown"]


def test_check_says_all_that_is_wrong_in_all_contracts_at_once(lake: Path, assay: Callable[..., Said]) -> None:
    text = (lake / "contracts/trades.yaml").read_text().replace("trades", "rates")
    (lake / "contracts/rates.yaml").write_text(text.replace("classification: internal", "classification: open", 1))
    _promise(
        lake, ("status: active", "statsu: active"), ("logicalType: date", "logicalType: day"), ("price > 0", "cost > 0")
    )
    said = assay("--lake", lake, "check")
    assert said.code == errors.ContractError.exit_code
    found = re.findall(r"^(?:ContractError: )?((?:trades|rates)\.yaml:\d+): (.*)$", said.err, re.MULTILINE)
    assert [where.partition(":")[0] for where, _ in found] == ["rates.yaml"] + ["trades.yaml"] * 4, said.err
    assert said.err.count("\n") == 5


def test_all_that_check_finds_is_said_before_a_source_is_asked(lake: Path, assay: Callable[..., Said]) -> None:
    """A rule whose types do not fit, an option that the source does not know, a pattern that no engine computes."""
    _promise(
        lake,
        ("price > 0", "symbol - 1 > 0"),
        ("{path: trades.csv}", "{path: trades.csv, delimeter: x}"),
        (
            "classification: internal",
            "classification: internal\n        logicalTypeOptions: {pattern: '(?:a{999}){999}'}",
        ),
    )
    for words in (["check"], ["plan"], ["apply"], ["apply", "trades"], ["land", "trades"]):
        said = assay("--lake", lake, *words)
        assert said.code == errors.ContractError.exit_code
        lines = said.err.removeprefix("ContractError: ").splitlines()
        assert [one.partition(":")[0] for one in lines] == ["trades.yaml"] * 3, said.err
        assert "rule trade_id:pattern cannot be computed" in said.err
        assert "rule price_positive cannot be computed" in said.err
        assert "did you mean" in said.err
    text = (lake / "contracts/trades.yaml").read_text().splitlines()
    for line, word in zip(lines, ("price_positive", "pattern", "options"), strict=True):
        assert word in text[int(line.split(":")[1]) - 1], line
    assert not list((lake / "data").glob("**/dt=*"))


def test_the_environment_says_which_lake_where_and_an_option_before_it(
    tmp_path: Path, assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = begun(tmp_path / "shop", "csv")
    monkeypatch.setenv("ASSAY_LAKE", str(root))
    assert assay("check").code == 0
    monkeypatch.setenv("ASSAY_TARGET", "moon")
    said = assay("plan")
    assert (said.code, "there is no target 'moon'; there is local, aws" in said.err) == (2, True)
    assert assay("--target", "local", "plan").code == 0
    said = assay("--target", "aws", "up")
    assert (said.code, "`assay up` runs a lake of this machine" in said.err) == (2, True)
    monkeypatch.setenv("ASSAY_TARGET", "")  # as a container's definition may leave it
    monkeypatch.setenv("ASSAY_ENV", "prod")
    assert assay("land", "trades").code == 0
    assert sorted(one.name for one in (root / "data").iterdir() if (one / "bronze").is_dir()) == ["prod"]
    assert lakes.place() == (root, "prod", "local")
