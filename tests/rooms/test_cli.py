"""The command line: each help shows an example, each error is one sentence with its exit code, data stays on standard output."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import duckdb
import pytest

from assay import cli, errors
from tests.conftest import ROOT

TRADES = "files/trades.csv"


@dataclass
class Said:
    """What a command gave back."""

    code: int
    out: str
    err: str


@pytest.fixture
def assay(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs one command in this process."""

    def call(*args: object) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(one) for one in args])
        found = capfd.readouterr()
        return Said(int(ended.value.code or 0), found.out, found.err)

    return call


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """The lake `assay init` makes, nothing landed."""
    from assay import run

    return run.init(tmp_path / "lake", ROOT / "lakes/csv")


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
    path.write_text(path.read_text().replace("primaryKey: true", "primaryKey: false"))
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
    [part] = lake.glob("data/dev/bronze/trades/dt=*/run=*/*-part-*.gz")
    part.chmod(0o600)
    part.write_bytes(part.read_bytes()[:-9])
    return ["verify", "bronze"]


def _not_built(lake: Path) -> list[object]:
    path = lake / "dbt/models/gold/mart_position.sql"
    path.write_text(path.read_text().replace("symbol,", "'ALL' as symbol,", 1))
    return ["apply"]


def _ready(lake: Path, *args: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--lake", str(lake), "--quiet", *args])


REACHED: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "SettingsError": (_no_lake, "it has no assay.toml; `assay init"),
    "ContractError": (_bad_contract, r"trades\.yaml:\d+: no column has primaryKey: true"),
    "UsageError": (lambda _: ["land", "prices"], "no dataset 'prices'; this lake has trades"),
    "SourceBusy": (_busy, "127.0.0.1 did not answer completely"),
    "SourceRefused": (_refused, r"trades\.csv is a link that leads out of"),
    "KeyRefused": (_key_refused, "the vendor knows no such key"),
    "SourceSuspect": (_suspect, r"no file of .*files is called trades\.csv"),
    "GateClosed": (_held, "1 batch is held: `assay status` says why"),
    "LakeDamaged": (_damaged, "is not what batch .* wrote; restore it from a copy"),
    "BuildFailed": (_not_built, "gold was not built; nothing is released yet"),
}


@pytest.mark.parametrize("name", REACHED)
def test_every_error_is_one_sentence_and_its_exit_code(lake: Path, assay: Callable[..., Said], name: str) -> None:
    reach, words = REACHED[name]
    args = reach(lake)
    said = assay("--lake", lake, "--quiet", *args)
    assert said.code == getattr(errors, name).exit_code
    assert said.err.startswith(f"{name}: "), said.err
    assert re.search(words, said.err), said.err
    assert "Traceback" not in said.err
    assert "BuildFailed" in said.err or said.err.count("\n") == 1, said.err


def _process(lake: Path, *args: str, **environment: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("assay")), "--lake", str(lake), "--quiet", *args]
    return subprocess.Popen(
        command, env=os.environ | environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_second_of_two_that_land_is_told_at_once_that_it_is_busy(
    lake: Path, assay: Callable[..., Said], tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    slow = _process(lake, "land", "trades", ASSAY_PAUSE=f"land.manifest:{gate}")
    try:
        while not list(tmp_path.glob("go.*.waiting")):
            assert slow.poll() is None, slow.stderr and slow.stderr.read()
            time.sleep(0.01)
        second = assay("--lake", lake, "land", "trades")
        gate.touch()
        _, err = slow.communicate(timeout=300)
    finally:
        with slow:
            slow.kill()
    assert second.code == errors.LakeBusy.exit_code
    assert second.err.startswith("LakeBusy: another process is landing"), second.err
    assert (slow.returncode, err) == (0, "")
    assert assay("--lake", lake, "land", "trades").out == "0 batches, 0 rows\n"


def test_every_class_of_error_is_reached_here() -> None:
    classes = {
        name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.AssayError)
    }
    assert classes - {"AssayError", "SourceError"} == {*REACHED, "LakeBusy"}


def test_a_traceback_only_with_debug(lake: Path) -> None:
    quiet, loud = _process(lake, "land", "prices"), _process(lake, "--debug", "land", "prices")
    _, short = quiet.communicate(timeout=300)
    _, long = loud.communicate(timeout=300)
    assert short == "UsageError: no dataset 'prices'; this lake has trades\n"
    assert "Traceback" in long
    assert long.rstrip().endswith("UsageError: no dataset 'prices'; this lake has trades")


SETTINGS = '[lake]\nname = "small"\n[source.files]\nbase_url = "file:files"\norigin = "synthetic"\n'


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
    (lake / "assay.toml").write_text(SETTINGS)
    assert assay("--lake", lake, "plan").code == 0
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
    assert planned["cost"] == {"calls": 1, "minutes": pytest.approx(1 / 300), "bytes": None}
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
    assert (why["value"], why["recomputed"]["equal"], len(why["observations"])) == ("16490.100000", True, 3)
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
    quiet = assay("--lake", lake, "--quiet", "land", "trades", "--again")
    assert (quiet.err, quiet.out) == ("", "1 batch, 10 rows\n")


def test_a_port_that_is_taken_or_none_is_the_callers_error(lake: Path, assay: Callable[..., Said]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = assay("--lake", lake, "serve", "--port", taken.getsockname()[1])
        assert (said.code, "is taken" in said.err) == (2, True), said
    assert assay("--lake", lake, "serve", "--port", 70000).code == 2
    assert "only loopback" in assay("--lake", lake, "serve", "--host", "0.0.0.0").err  # noqa: S104 - it is refused


def test_a_table_that_was_cut_says_so_and_csv_and_json_are_whole(lake: Path, assay: Callable[..., Said]) -> None:
    assay("--lake", lake, "--quiet", "apply")
    rows = "select a.trade_id from silver.trades a, silver.trades b, silver.trades c, silver.trades d"
    table = assay("--lake", lake, "sql", rows)
    assert (table.code, len(table.out.splitlines())) == (0, 1002)
    assert table.err == "these are the first 1000 rows, there are more; --limit gives them\n"
    whole = assay("--lake", lake, "sql", rows, "--format", "csv")
    assert (len(whole.out.splitlines()), whole.err) == (10_001, "")
    assert len(json.loads(assay("--lake", lake, "--json", "sql", rows).out)) == 10_000
    assert "first 2 rows" in assay("--lake", lake, "sql", rows, "--format", "csv", "--limit", 2).err


def test_json_of_a_query_loses_no_column_and_is_json(lake: Path, assay: Callable[..., Said]) -> None:
    assay("--lake", lake, "--quiet", "apply")
    said = assay("--lake", lake, "--json", "sql", "select 1 a, 2 a")
    assert (said.code, json.loads(said.err)["error"]) == (2, "UsageError")
    assert "two columns are called a" in said.err
    found = assay("--lake", lake, "--json", "sql", "select cast('nan' as double) x, cast('-inf' as double) y").out
    assert json.loads(found, parse_constant=pytest.fail) == [{"x": None, "y": None}]


def test_data_cannot_steer_the_terminal(lake: Path, assay: Callable[..., Said]) -> None:
    assay("--lake", lake, "--quiet", "apply")
    said = assay("--lake", lake, "sql", "select '\x1b]0;mine\x07' a, 'b\rc' b")
    assert said.out.splitlines()[2].split() == ["\\x1b]0;mine\\x07", "b\\rc"]


def test_rows_of_a_held_batch_can_be_seen_and_a_newer_landing_takes_its_place(
    lake: Path, assay: Callable[..., Said]
) -> None:
    good = (lake / TRADES).read_text()
    REACHED["GateClosed"][0](lake)
    assert assay("--lake", lake, "--quiet", "apply").code == 4
    status = assay("--lake", lake, "status").out
    assert re.search(r"held \w+: \d+ of 30 rows are bad: more than .* percent \(price_positive \d+\)", status), status
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


def test_a_lake_that_was_moved_or_lost_its_catalog_says_what_to_do(
    lake: Path, assay: Callable[..., Said], tmp_path: Path
) -> None:
    assay("--lake", lake, "--quiet", "apply")
    moved = lake.rename(tmp_path / "elsewhere")
    said = assay("--lake", moved, "status")
    assert said.code == errors.LakeDamaged.exit_code
    assert said.err.startswith("LakeDamaged: this lake was moved"), said.err
    kept = {"bronze", "contracts"}
    assert kept <= {one.name for one in (moved / "data/dev").iterdir()}
    for one in (moved / "data/dev").iterdir():
        if one.name not in kept:
            shutil.rmtree(one) if one.is_dir() else one.unlink()
    assert assay("--lake", moved, "--quiet", "apply").code == 0
    (moved / "data/dev/catalog.db").unlink()
    said = assay("--lake", moved, "plan")
    assert (said.code, said.err.count("\n")) == (errors.LakeDamaged.exit_code, 1)
    assert "Take away all of" in said.err


def test_an_environment_typed_wrong_is_no_new_one(lake: Path, assay: Callable[..., Said]) -> None:
    assert assay("--lake", lake, "status").code == 0
    assay("--lake", lake, "--quiet", "apply")
    said = assay("--lake", lake, "--env", "prod", "status")
    assert (said.code, said.err.startswith("UsageError: there is no data of environment 'prod'; there is dev")) == (
        2,
        True,
    )
    assert not (lake / "data/prod").exists()


def test_a_plan_refuses_what_applying_it_would(lake: Path, assay: Callable[..., Said]) -> None:
    assay("--lake", lake, "--quiet", "apply")
    path = lake / "contracts/trades.yaml"
    assert "decimal(18,6)" in path.read_text()
    path.write_text(path.read_text().replace("decimal(18,6)", "decimal(18,7)"))
    said = assay("--lake", lake, "plan")
    assert said.code == 2
    assert "readers would break" in said.err


def test_an_explanation_that_does_not_hold_is_an_error(lake: Path, assay: Callable[..., Said]) -> None:
    assay("--lake", lake, "--quiet", "apply")
    served = next((lake / "data/dev/serving").glob("mart_position-*.duckdb"))
    with duckdb.connect(str(served)) as con:
        con.execute("UPDATE mart_position SET cost = 1 WHERE symbol = 'AAPL'")
    said = assay("--lake", lake, "explain", "mart_position", "symbol=AAPL", "--column", "cost")
    assert said.code == errors.LakeDamaged.exit_code
    assert "DIFFERENT" in said.out
    assert "is not what its input rows give" in said.err


def test_a_terminated_command_ends_as_an_interrupted_one(lake: Path, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    slow = _process(lake, "land", "trades", ASSAY_PAUSE=f"land.manifest:{gate}")
    with slow:
        while not list(tmp_path.glob("go.*.waiting")):
            assert slow.poll() is None, slow.stderr and slow.stderr.read()
            time.sleep(0.01)
        slow.terminate()
        gate.touch()
        _, err = slow.communicate(timeout=300)
    assert (slow.returncode, err.strip()) == (143, "stopped; what was committed stays, the rest is planned again")
