"""No text of others steers a terminal, breaks a line, or turns what stands beside it: whatever a lake's files hold."""

import csv
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from assay import cli, errors, tell
from assay.run import lake as lakes
from assay.serve.query import Problem
from tests.forked import Said
from tests.kept import begun

NASTY = "\x1b[31m\r\x9b2J\u202e\x7f\nforged"
"""What colours a terminal, goes back in its line, clears it, turns text around, and begins a line of its own."""
YAML = '"\\e[31m\\r\\x9b2J\\u202e\\x7f\\nforged"'


def clean(text: str) -> bool:
    """Whether a text has nothing but what is seen, and no line that a stranger began."""
    return not any(line.startswith("forged") or not line.isprintable() for line in text.split("\n"))


@pytest.fixture
def assay(assay: Callable[..., Said]) -> Callable[..., Said]:
    """Runs one command in this process; what it says is clean, whatever it is."""

    def call(*args: object) -> Said:
        found = assay(*args)
        assert clean(found.out), (args, found.out)
        assert clean(found.err), (args, found.err)
        return found

    return call


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose cells, contract and gold test hold such a text, landed, refined and released."""
    root = begun(tmp_path_factory.mktemp("nasty") / "lake", "csv")
    with (root / "files/trades.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("trade_id", "date", "symbol", "quantity", "price", f"more {NASTY}"),
                ("T-1", "2024-01-03", f"A{NASTY}", "1", "2", NASTY),
                ("T-2", "2024-01-03", "B", "1", "2", NASTY),
                (f"T{NASTY}", "2024-01-03", "C", "1", "2", NASTY),
                ("T-4", f"2024{NASTY}", "D", "1", "2", NASTY),
            ]
        )
    contract = root / "contracts/trades.yaml"
    text = contract.read_text()
    for plain in ("My trades", "One row per trade.", "ticker as the broker spells it", "a trade moves something"):
        assert plain in text
        text = text.replace(plain, YAML)
    contract.write_text(text)
    yml = root / "dbt/models/gold/mart_position.yml"
    yml.write_text(yml.read_text().replace("what it cost on balance.", 'what it cost \\e[31m\\r\\u202e"').replace("description: What", 'description: "What'))  # fmt: skip
    warned = "{{ config(severity='warn') }} select symbol from {{ ref('mart_position') }} where symbol <> 'B'"
    (root / "dbt/tests/warned.sql").write_text(warned)
    with lakes.open(root) as opened:
        said: list[str] = []
        assert not opened.apply(opened.plan(), say=said.append).errors
        assert said
    return root


@pytest.mark.slow
def test_no_command_prints_what_steers_a_terminal(lake: Path, assay: Callable[..., Said]) -> None:
    def of(*args: object, code: int = 0) -> Said:
        said = assay("--lake", lake, *args)
        assert said.code == code, said
        return said

    for words in (
        ("contract", "trades"),
        ("plan",),
        ("status",),
        ("verify", "counts"),
        ("verify", "rebuild"),
        ("upkeep",),
    ):
        of(*words)
        said = assay("--lake", lake, "--json", *words)
        assert said.code == 0
        json.loads(said.out)
    assert "\\x9b2J\\u202e" in of("quarantine", "list").out
    assert "\\x1b[31m" in of("contract", "trades").out
    why = of("explain", "silver.trades", "trade_id=T-1", "--column", "symbol").out
    assert "\\u202e" in why
    of("explain", "mart_position", f"symbol=A{NASTY}")
    of("explain", "mart_position", f"symbol={NASTY}", code=2)
    of("explain", NASTY, "a=b", code=2)
    of("sql", f'select symbol as "{NASTY}" from silver.trades')
    of("sql", f"select symbol from silver.trades where {NASTY}", code=2)
    of("sql", f'select 1 from silver."{NASTY}"', code=2)
    of("sql", f"select cast(symbol as integer) /* {NASTY} */ from silver.trades", code=2)
    of("--json", "sql", "select symbol from silver.trades")
    of("land", NASTY, code=2)
    of("land", "trades", "--shard", NASTY, code=2)
    of("plan", f"source:{NASTY}", code=2)
    of("plan", "--span", NASTY, code=2)
    of("decide", "release", "trades", NASTY, "--why", NASTY, "--who", NASTY, code=2)
    of("decide", "exclude", "trades", "2.0", "--why", NASTY, "--who", NASTY)
    of("status")
    of(NASTY, code=2)
    of("sql", "select 1", f"--{NASTY}", code=2)
    of("upkeep", NASTY, code=2)
    of("--env", NASTY, "status", code=2)
    assert assay("--lake", lake / NASTY, "status").code == 2
    assert assay("--lake", lake / NASTY, "--json", "status").code == 2


@pytest.mark.slow
def test_a_piped_csv_has_the_cells_as_they_are(lake: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(
            ["--lake", str(lake), "sql", "select symbol from silver.trades where symbol <> 'B'", "--format", "csv"]
        )
    assert capfd.readouterr().out == f'symbol\n"A{NASTY}"\n'


@pytest.mark.slow
def test_a_csv_for_a_terminal_does_not_steer_it(
    lake: Path, assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert assay("--lake", lake, "sql", "select symbol from silver.trades", "--format", "csv").code == 0


@pytest.mark.slow
def test_no_page_and_no_refusal_holds_what_is_not_seen(lake: Path) -> None:
    with lakes.open(lake) as opened, opened.serving("127.0.0.1", 0) as url, httpx.Client(base_url=url) as client:
        for path in ("/", "/silver/trades", "/silver/trades_versions", "/gold/mart_position", "/explain/mart_position?symbol=A%1B%5B31m%0D%C2%9B2J%E2%80%AE%7F%0Aforged",
                     "/gold/mart_position?symbol=%1B%0Aforged", "/gold/no%1Bsuch", "/%1B%C2%9B"):  # fmt: skip
            said = client.get(path)
            assert said.status_code < 500, path
            assert all(line.isprintable() for line in said.text.replace("\u00a0", " ").split("\n")), path
            assert all(value.isprintable() for value in said.headers.values())
        for path in (
            "/v1/gold/mart_position?%1B%C2%9B=1",
            "/v1/gold/%1B%C2%9B",
            "/v1/silver/trades?date=%C2%9B%0Aforged",
        ):
            detail = client.get(path).json()["detail"]
            assert detail.isprintable(), path
    assert Problem(400, NASTY).detail.isprintable()


@pytest.mark.slow
def test_what_the_ledger_keeps_of_a_failure_is_lines(lake: Path) -> None:
    with lakes.open(lake) as opened:
        from assay.run import loop

        for error in (errors.SourceRefused(NASTY, NASTY), ValueError(NASTY)):
            loop.mark(opened.target.ledger, "trades", "land", "failed", "run", loop._named(error))
            [kept] = opened.status()["datasets"]["trades"]["failing"]
            assert clean(kept["error"])
            loop.mark(opened.target.ledger, "trades", "land", "done", "run")


def test_a_log_has_a_line_a_record(caplog: pytest.LogCaptureFixture) -> None:
    try:
        int(NASTY)
    except ValueError:
        logging.getLogger("assay").exception("asked for %s", NASTY)
    [record] = caplog.records
    said = tell.Logged("%(levelname)s %(message)s").format(record)
    assert all(line.isprintable() for line in said.split("\n"))
    assert "forged" in said.split("\n")[0]


def test_a_failure_without_a_sentence_steers_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    error = ValueError(NASTY)
    tell.failed(ValueError, error, None)
    assert all(line.isprintable() for line in capfd.readouterr().err.split("\n"))


def errors_of_ours() -> Iterator[type[errors.AssayError]]:
    waiting = [errors.AssayError]
    while waiting:
        waiting += (kind := waiting.pop()).__subclasses__()
        yield kind


@pytest.mark.parametrize("kind", list(errors_of_ours()), ids=lambda kind: kind.__name__)
def test_an_error_has_the_lines_that_it_was_given(kind: type[errors.AssayError]) -> None:
    said = str(kind("one", NASTY))
    assert clean(said)
    assert len(said.split("\n")) == 2


def test_errors_told_together_keep_their_lines() -> None:
    told = errors.together([errors.ContractError("a", NASTY), errors.BuildFailed("b", "c")])
    assert told.args == ("a", NASTY, "BuildFailed: b", "c")
