"""A lake says its format: a newer one is refused by every command, one of a former format is upgraded, whoever is stopped at it."""

import hashlib
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import click
import msgspec
import pytest

from assay import cli, clock, crash, run, settings, targets, up
from assay.errors import LakeDamaged, WrongFormat
from assay.lake import account, formats
from assay.ports import Files
from assay.run import prove
from assay.run import upgrade as upgrading
from assay.targets.local import DiskFiles
from assay.targets.sqlite import SqliteLedger
from tests.conftest import ROOT
from tests.forked import Said, hindered
from tests.forked import assay as command
from tests.kept import Kept, begun
from tests.making import make, make_on_store

FORMER = ROOT / "tests/fixtures/format-1"
NUMBER = formats.name_of(formats.FORMAT)
Assay = Callable[..., Said]


def bytes_of(root: Path) -> dict[str, str]:
    """All files below a directory, by name, with the hashes of their bytes."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def former(root: Path) -> Path:
    """The lake of CSV files as an assay of then left it: its log, evidence, rows and ledger, the last landing failed."""
    begun(root, "csv")
    data = root / "data/dev"
    shutil.copytree(FORMER, data, ignore=shutil.ignore_patterns("ledger.sql"))
    con = sqlite3.connect(data / "ledger.db")
    con.executescript((FORMER / "ledger.sql").read_text())
    con.close()
    return root


def numberless(root: Path) -> Path:
    """A lake with data of today's that says no format."""
    begun(root, "csv")
    with run.open(root) as lake:
        lake.refine("trades")
        lake.target.files.delete(NUMBER)
    return root


def number(root: Path) -> int:
    return formats.of(DiskFiles(root / "data/dev"))


# ------------------------------------------------------------------ what a lake says


def test_a_lake_says_its_format_before_its_first_object_and_not_when_it_is_looked_at(
    tmp_path: Path, assay: Assay
) -> None:
    root = begun(tmp_path / "lake", "csv")
    for looks in (["status"], ["plan"], ["keys", "list"], ["upgrade"]):
        assert assay("--lake", root, *looks).code == 0
        assert not list((root / "data/dev").glob("bronze*"))
    with command(root, "refine", "trades", ASSAY_CRASH="land.contract:before") as one:
        assert one.said().code == 137
    assert list(bytes_of(root / "data/dev/bronze")) == [NUMBER.removeprefix("bronze/")]
    assert msgspec.json.decode((root / "data/dev" / NUMBER).read_bytes())["lake"] == formats.FORMAT
    assert assay("--lake", root, "land", "trades").code == 0
    assert "the lake has format 2" in assay("--lake", root, "upgrade").out


@pytest.mark.parametrize("where", [make, make_on_store])
@pytest.mark.parametrize("seed", range(5))
def test_the_greatest_number_counts_however_late_a_listing_is(
    tmp_path: Path, where: Callable[..., object], seed: int
) -> None:
    made = make(tmp_path) if where is make else make_on_store(tmp_path, seed)
    files: Files = made.files
    assert (formats.of(files), formats.begun(files)) == (formats.FIRST, False)
    formats.begin(files)
    assert (formats.of(files), formats.begun(files)) == (formats.FORMAT, True)
    formats.put(files, formats.FORMAT)
    assert formats.of(files) == formats.FORMAT
    formats.put(files, formats.FORMAT + 1)
    with pytest.raises(WrongFormat, match=f"has format {formats.FORMAT + 1}, made by assay"):
        formats.of(files)
    made.close()


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[]", b'{"lake":2,"assay":"0.1.0","sha256":""}', b'{"lake":2}', bytes(200), b"\xff"]
)
def test_a_number_that_is_not_what_was_written_is_damage(tmp_path: Path, garbage: bytes) -> None:
    files = DiskFiles(tmp_path)
    files.put_new(NUMBER, garbage, "lake.format")
    with pytest.raises(LakeDamaged, match=r"bronze/_format/0002\.json is not what was written") as said:
        formats.of(files)
    assert not isinstance(said.value, WrongFormat)


def test_a_flipped_bit_of_a_number_is_damage(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    formats.put(files, formats.FORMAT)
    whole = files.read(NUMBER)
    for bit in range(8 * len(whole)):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        (tmp_path / NUMBER).write_bytes(altered)
        with pytest.raises(LakeDamaged, match="is not what was written"):
            formats.of(files)


def test_a_newer_number_is_refused_whatever_it_looks_like(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    files.put_new(formats.name_of(12), b'{"format":9,"moved":true}', "lake.format")
    with pytest.raises(WrongFormat, match="format 12, made by a newer assay"):
        formats.of(files)


# ------------------------------------------------------------------ newer

APART = {"init", "check", "calendar", "sandbox", "demo", "cloudsim"}
"""Commands that open no lake's data, or a lake of their own."""


def commands(group: click.Group = cli.cli) -> Iterator[list[str]]:
    """The words of every command, also of those that others stand below."""
    for name, one in group.commands.items():
        if not isinstance(one, click.Group) or one.invoke_without_command:
            yield [name]
        if isinstance(one, click.Group):
            yield from ([name, *words] for words in commands(one))


OPENING = [words for words in commands() if words[0] not in APART]


def given(words: list[str]) -> list[str]:
    """A command's words with something for each argument and option that it asks for."""
    group: click.Command = cli.cli
    for word in words:
        assert isinstance(group, click.Group)
        group = group.commands[word]
    asked = [one for one in group.params if one.required]
    options = [f"{one.opts[0]}=x" for one in asked if isinstance(one, click.Option)]
    return [*words, *options, *("trades" for one in asked if isinstance(one, click.Argument))]


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of a format that is not known yet."""
    root = begun(tmp_path_factory.mktemp("newer") / "lake", "csv")
    with run.open(root) as lake:
        lake.refine("trades")
        said = formats._encoded(formats.FORMAT + 1, "9.8.7")
        lake.target.files.put_new(formats.name_of(formats.FORMAT + 1), said, "lake.format")
    return root


def test_the_commands_that_open_a_lake_are_all_but_these() -> None:
    assert {words[0] for words in commands()} > APART
    assert ["runs"] in OPENING
    assert len(OPENING) > 30


@pytest.mark.parametrize("words", OPENING, ids=" ".join)
def test_a_lake_of_a_newer_format_is_refused_by_every_command_and_stays_what_it_is(
    newer: Path, assay: Assay, words: list[str]
) -> None:
    before = bytes_of(newer / "data/dev")
    said = assay("--lake", newer, *given(words))
    assert said.code == 5, said
    assert f"has format {formats.FORMAT + 1}, made by assay 9.8.7; this is assay " in said.err
    assert "install assay 9.8.7 or a newer one" in said.err
    assert bytes_of(newer / "data/dev") == before


# ------------------------------------------------------------------ older


def test_each_former_format_has_a_step() -> None:
    assert list(upgrading.STEPS) == list(range(formats.FIRST, formats.FORMAT))


def test_a_lake_that_says_no_format_works_as_it_is_until_it_is_upgraded(tmp_path: Path, assay: Assay) -> None:
    root = numberless(tmp_path / "lake")
    other = (root / "contracts/trades.yaml").read_text().replace("id: trades\n", "id: deals\n")
    (root / "contracts/deals.yaml").write_text(other.replace("- name: trades\n", "- name: deals\n"))
    for words in (
        ["status"],
        ["plan"],
        ["land", "trades"],
        ["refine", "trades"],
        ["land", "deals"],
        ["verify", "counts"],
    ):
        assert assay("--lake", root, *words).code == 0
    assert number(root) == 1, "what was begun before numbers is not said to be today's"
    assert assay("--lake", root, "upgrade").out == "upgraded from format 1 to 2\n"
    assert number(root) == 2
    for words in (["status"], ["verify", "counts"], ["verify", "rebuild"]):
        assert assay("--lake", root, *words).code == 0


def test_a_lake_of_then_is_refused_by_what_it_lacks_and_is_whole_once_it_is_upgraded(
    tmp_path: Path, assay: Assay
) -> None:
    root = former(tmp_path / "lake")
    for words in (["status"], ["plan"], ["apply"], ["alerts"], ["runs"], ["serve", "--port=0"], ["up"], ["upkeep"]):
        said = assay("--lake", root, *words)
        assert (said.code, "`assay upgrade` makes it one of format 2" in said.err) == (5, True), said
    said = assay("--lake", root, "upgrade")
    assert (said.code, said.out) == (0, "upgraded from format 1 to 2\n"), said
    assert said.err.splitlines()[0].startswith("format 1 to 2: a ledger without checksums gets them")
    assert said.err.splitlines()[-1] == "the lake has format 2"
    with run.open(root) as lake:
        [failed] = lake.status()["datasets"]["trades"]["failing"]
        assert "a quote is opened and never closed" in str(failed), "what nothing else knows stays"
        assert lake.target.ledger.newest("release", "")
        assert not lake.apply(lake.landings("trades", again=True)).errors
        assert not lake.apply(lake.plan(["trades"])).errors
        assert lake.status()["datasets"]["trades"]["failing"] == []
        assert prove.counts(lake)["captured"] == 20
        assert prove.rebuild(lake, ["trades"]) == {"trades": 10}
        prove.bronze_objects(lake)
        prove.silver_objects(lake)


def test_a_dry_run_says_the_steps_and_changes_no_byte(tmp_path: Path, assay: Assay) -> None:
    root = former(tmp_path / "lake")
    before = bytes_of(root / "data/dev")
    said = assay("--lake", root, "upgrade", "--dry-run")
    assert said.code == 0
    assert said.out.splitlines()[0] == f"format 1 to 2: {upgrading.STEPS[1].told}"
    assert said.out.splitlines()[-1] == "nothing was changed; without --dry-run it is done"
    assert bytes_of(root / "data/dev") == before


def test_an_upgrade_with_nothing_to_do_says_so_and_puts_nothing(tmp_path: Path, assay: Assay) -> None:
    root = numberless(tmp_path / "lake")
    assert assay("--lake", root, "upgrade").code == 0
    before = bytes_of(root / "data/dev")
    for more in ([], ["--dry-run"]):
        said = assay("--lake", root, "--json", "upgrade", *more)
        assert (said.code, msgspec.json.decode(said.out)) == (0, {"from": 2, "to": 2, "steps": []})
    assert bytes_of(root / "data/dev") == before
    said = assay("--lake", root, "--env", "prdo", "upgrade")
    assert (said.code, "there is no data of environment 'prdo'" in said.err) == (2, True)


def test_an_upgrade_asks_no_contract(tmp_path: Path, assay: Assay) -> None:
    root = former(tmp_path / "lake")
    (root / "contracts/trades.yaml").write_text("no contract any more")
    assert assay("--lake", root, "upgrade").code == 0
    assert number(root) == 2


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A lake of then, to begin with again and again."""
    one = Kept(former(tmp_path_factory.mktemp("kept") / "lake"))
    one.keep("former")
    return one


EFFECTS = ["upgrade.ledger", "lake.format"]


def test_every_effect_of_an_upgrade_is_stopped() -> None:
    assert {*EFFECTS} == {one for one in crash.EFFECTS if one.startswith(("upgrade.", "lake."))}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_an_upgrade_that_is_stopped_goes_on_where_it_was(kept: Kept, assay: Assay, effect: str, when: str) -> None:
    root = kept.begin("former")
    with command(root, "upgrade", ASSAY_CRASH=f"{effect}:{when}") as one:
        said = one.said()
    assert (said.code, said.err.splitlines()[-1]) == (137, f"stopped at {effect}:{when}"), said.err
    assert number(root) == (2 if (effect, when) == ("lake.format", "after") else 1)
    assert assay("--lake", root, "upgrade").code == 0
    assert number(root) == 2
    with run.open(root) as lake:
        assert len(lake.status()["datasets"]["trades"]["failing"]) == 1
        lake.refine("trades")
        assert prove.counts(lake)["captured"] == 10


def test_an_upgrade_keeps_of_a_ledger_what_nothing_else_knows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    con = sqlite3.connect(path)
    con.executescript((FORMER / "ledger.sql").read_text())
    con.execute("INSERT INTO leases VALUES ('land trades', 'somebody', ?)", [2**60])
    con.commit()
    before = {one[:3]: one[5] for one in con.execute("SELECT * FROM facts")}
    con.close()
    for _ in range(2):
        with closing(SqliteLedger(path, upgrade=True)) as ledger:
            found = {
                (fact.kind, fact.dataset, fact.id): fact.body
                for kind, dataset, _ in before
                for fact in ledger.since(kind, dataset)
            }
            assert found == {
                name: msgspec.json.decode(body)
                for name, body in before.items()
                if name[0] in ("step", "failed", "release", "upkeep")
            }
            assert not ledger.claim("land trades", "another", clock.now() + timedelta(minutes=1))


def test_a_former_ledger_that_cannot_be_written_is_the_owners(tmp_path: Path) -> None:
    root = former(tmp_path / "lake")
    (root / "data/dev/ledger.db").chmod(0o400)
    program = hindered("-m", "assay.cli", "--lake", str(root), "upgrade")
    said = subprocess.run(program, check=False, capture_output=True, text=True)
    assert (said.returncode, "SettingsError" in said.stderr) == (2, True), said
    assert number(root) == 1


def test_an_upgrade_waits_for_no_tree_that_runs(tmp_path: Path, assay: Assay) -> None:
    root = former(tmp_path / "lake")
    with up.alone(root / "data/dev"):
        said = assay("--lake", root, "upgrade")
    assert (said.code, "`assay up` runs already" in said.err) == (75, True), said
    assert number(root) == 1


def test_who_holds_a_former_ledger_open_is_refused_by_it_and_alters_nothing(kept: Kept, assay: Assay) -> None:
    root = kept.begin("former")
    old = sqlite3.connect(root / "data/dev/ledger.db", isolation_level=None)
    put = "INSERT OR REPLACE INTO facts VALUES ('step', '', 'build', '2026-01-01', 9, '{}')"
    old.execute(put)
    assert assay("--lake", root, "upgrade").code == 0
    with pytest.raises(sqlite3.OperationalError, match="has 7 columns but 6 values were supplied"):
        old.execute(put)
    old.close()
    with run.open(root) as lake:
        assert account.failing(lake.target.ledger, "trades")
        lake.refine("trades")
        assert prove.counts(lake)["captured"] == 10


@pytest.fixture
def target(tmp_path: Path) -> Iterator[targets.Target]:
    """The parts of a lake of then."""
    found = targets.open("local", settings.read(former(tmp_path / "lake")))
    yield found
    found.close()


def test_two_upgrades_of_one_lake_do_what_one_does(target: targets.Target) -> None:
    said: list[str] = []

    def meets(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            upgrading.upgrade(target)

    assert upgrading.upgrade(target, say=meets).steps
    assert formats.of(target.files) == 2
    assert [fact.id for fact in target.ledger.since("step", "trades")] == ["land", "refine"]
