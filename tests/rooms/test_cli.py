"""The command line: each help shows an example, each error is one sentence with its exit code, data stays on standard output."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
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
    "GateClosed": (_held, "1 batches are held: `assay status` says why"),
    "LakeDamaged": (_damaged, "is not what batch .* wrote; restore it from a copy"),
    "BuildFailed": (_not_built, "the last release stays"),
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


def test_the_slower_of_two_that_land_the_same_is_told_it_is_busy(
    lake: Path, assay: Callable[..., Said], tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    slow = _process(lake, "land", "trades", ASSAY_PAUSE=f"land.manifest:{gate}")
    try:
        while not list(tmp_path.glob("go.*.waiting")):
            assert slow.poll() is None, slow.stderr and slow.stderr.read()
            time.sleep(0.01)
        assert assay("--lake", lake, "land", "trades").code == 0
        gate.touch()
        _, err = slow.communicate(timeout=60)
    finally:
        slow.kill()
    assert slow.returncode == errors.LakeBusy.exit_code
    assert re.fullmatch(r"LakeBusy: .*g1\.json was written by another run meanwhile.*\n", err), err


def test_every_class_of_error_is_reached_here() -> None:
    classes = {
        name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.AssayError)
    }
    assert classes - {"AssayError", "SourceError"} == {*REACHED, "LakeBusy"}


def test_a_traceback_only_with_debug(lake: Path) -> None:
    quiet, loud = _process(lake, "land", "prices"), _process(lake, "--debug", "land", "prices")
    _, short = quiet.communicate(timeout=60)
    _, long = loud.communicate(timeout=60)
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
    assert (quiet.err, quiet.out) == ("", "1 batches, 10 rows\n")


def test_a_port_that_is_taken_or_none_is_the_callers_error(lake: Path, assay: Callable[..., Said]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = assay("--lake", lake, "serve", "--port", taken.getsockname()[1])
        assert (said.code, "is taken" in said.err) == (2, True), said
    assert assay("--lake", lake, "serve", "--port", 70000).code == 2
    assert "only loopback" in assay("--lake", lake, "serve", "--host", "0.0.0.0").err  # noqa: S104 - it is refused
