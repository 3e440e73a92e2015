"""DuckDB is opened in one place, keeps the lake's limits, and what it says is told by who must act."""

import ast
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from assay.errors import AssayError, LakeBusy, LakeDamaged, SettingsError
from assay.lake import duck
from assay.lake.duck import Limits
from tests.conftest import ROOT
from tests.forked import hindered

SORTS = "SELECT i, md5(CAST(i AS VARCHAR)) AS m FROM range(1000000) AS t (i) ORDER BY m"


def test_nothing_else_opens_duckdb() -> None:
    found = []
    for path in (ROOT / "src/assay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "duckdb.connect":
                found.append(path.relative_to(ROOT).as_posix())
            if isinstance(node, ast.ImportFrom) and node.module == "duckdb":
                assert "connect" not in {one.name for one in node.names}, path
    assert found == ["src/assay/lake/duck.py"]


def test_every_cursor_keeps_the_limits(tmp_path: Path) -> None:
    limits = Limits("60MB", 1, tmp_path / "spill", "300MB")
    wanted = {
        "memory_limit": "57.2 MiB", "threads": 1, "temp_directory": str(tmp_path / "spill"), "max_temp_directory_size": "286.1 MiB",
        "timezone": "UTC", "python_enable_replacements": False, "autoinstall_known_extensions": False,
        "autoload_known_extensions": False, "enable_progress_bar": False, "preserve_insertion_order": True,
    }  # fmt: skip
    for path in (None, tmp_path / "some.duckdb"):
        with duck.open(limits, path) as con:
            for one in (con, con.cursor()):
                for name, value in wanted.items():
                    assert one.execute(f"SELECT current_setting('{name}')").fetchall() == [(value,)], name
            known = {"here": [1]}
            with pytest.raises(duckdb.Error):
                con.execute("SELECT * FROM known")
            assert known
    with duck.open(limits, ordered=False) as con:
        assert con.execute("SELECT current_setting('preserve_insertion_order')").fetchall() == [(False,)]
    with (
        duck.open(limits, tmp_path / "some.duckdb", read_only=True) as con,
        pytest.raises(duckdb.InvalidInputException),
    ):
        con.execute("CREATE TABLE t (i INTEGER)")


def test_it_spills_to_scratch_and_nowhere_without(tmp_path: Path) -> None:
    with duck.open(Limits("60MB", 1, tmp_path)) as con:
        con.execute(f"CREATE TABLE sorted AS {SORTS}")
        assert any(one.name.startswith("duckdb_temp_") for one in tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
    with duck.open(Limits("60MB", 1)) as con, pytest.raises(duckdb.OutOfMemoryException):
        con.execute(f"CREATE TABLE sorted AS {SORTS}")


# --------------------------------------------------------------------- one test for each of DuckDB's phrases we go by


def told(act: Callable[[], object], limits: Limits | None = None) -> AssayError | None:
    with pytest.raises(duckdb.Error) as caught:
        act()
    return duck.meaning(caught.value, limits, "the test")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a DuckDB file and a parquet file."""
    folder = tmp_path_factory.mktemp("whole")
    rows = "SELECT range AS i, md5(range::VARCHAR) AS m, CASE WHEN i % 3 > 0 THEN i END AS n FROM range(100000)"
    with duck.open(Limits(), folder / "x.duckdb") as con:
        con.execute(f"CREATE TABLE t AS {rows}; COPY ({rows}) TO '{folder / 'x.parquet'}' (COMPRESSION zstd)")
    return folder


def inverted(data: bytes, start: int, end: int) -> bytes:
    return data[:start] + bytes(b ^ 255 for b in data[start:end]) + data[end:]


@pytest.mark.parametrize(
    ("name", "how", "phrase"),
    [
        ("x.duckdb", lambda _: None, "Cannot open database"),
        ("x.duckdb", lambda _: b"", "exists, but it is not a valid"),
        ("x.duckdb", lambda d: d[:20_000], "Could not read enough bytes"),
        ("x.duckdb", lambda d: inverted(d, 200_000, len(d)), "Corrupt database file"),
        ("x.parquet", lambda _: None, "No files found that match"),
        ("x.parquet", lambda _: b"", "too small to be a Parquet file"),
        ("x.parquet", lambda d: d[:1000], "No magic bytes"),
        ("x.parquet", lambda d: d[: len(d) // 2] + d[-5000:], "Prefetch registered for bytes outside file"),
        ("x.parquet", lambda d: inverted(d, 4, 1000), "don't know what type: "),
    ],
)
def test_a_lost_or_damaged_file_is_damage(
    whole: Path, tmp_path: Path, name: str, how: Callable[[bytes], bytes | None], phrase: str
) -> None:
    path = tmp_path / name
    if (data := how((whole / name).read_bytes())) is not None:
        path.write_bytes(data)

    def read() -> None:
        with duck.open(Limits()) as con:
            if name.endswith("duckdb"):
                con.execute(f"ATTACH '{path}' AS other (READ_ONLY)")
            relation = "other.t" if name.endswith("duckdb") else f"read_parquet(['{path}']) AS t"
            con.execute(f"SELECT sum(hash(t)) FROM {relation}")

    with pytest.raises(duckdb.Error, match=phrase) as caught:
        read()
    assert isinstance(duck.meaning(caught.value), LakeDamaged)
    assert "lost or damaged; `assay build` makes gold's files anew" in str(duck.meaning(caught.value))


@pytest.mark.parametrize("where", ["table", "parquet", "spill"])
def test_a_full_disk_is_told_with_its_place(tmp_path: Path, where: str) -> None:
    """A limit of the process on the size of a file stands for the disk: the system says no in the same words."""
    statement = {
        "table": f"CREATE TABLE t AS {SORTS}",
        "parquet": f"COPY ({SORTS}) TO '{tmp_path / 'some.parquet'}'",
        "spill": f"CREATE TEMP TABLE t AS {SORTS}",
    }[where]
    limits = Limits("1GB" if where == "parquet" else "40MB", 1, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    con = duck.open(limits, tmp_path / "some.duckdb")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        found = told(lambda: con.execute(statement), limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        con.close()
    assert isinstance(found, SettingsError)
    assert str(found) == f"no room left below {tmp_path}: free some and run it again; nothing of the test is visible"


@pytest.mark.parametrize("said", ["No space left on device", "Disk quota exceeded", "File too large"])
def test_what_a_disk_says_is_found_in_what_dbt_prints(said: str) -> None:
    for text in (
        f'Runtime Error in model x\n  IO Error: Could not write file "/d/x.tmp": {said}',
        f"Encountered an error:\n[Errno 28] {said}: 'target/manifest.json'",
    ):
        assert duck.full(text)
    assert not duck.full(f"Got 1 result: {said}")


def test_too_little_memory_is_the_owners_matter() -> None:
    with duck.open(Limits("20MB", 1)) as con:
        found = told(lambda: con.execute(f"CREATE TABLE t AS {SORTS}"))
    assert isinstance(found, SettingsError)
    assert str(found).startswith("the test needs more than [lake] memory of assay.toml allows")


def test_a_file_that_another_process_writes_to_is_busy(whole: Path) -> None:
    code = "import sys, duckdb; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    path = str(whole / "x.duckdb")
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        found = told(lambda: duck.open(Limits(), whole / "x.duckdb"))
        other.stdin.close()
    assert isinstance(found, LakeBusy)
    assert str(found) == f"{path} is open for writing in another program; close it there and ask again"


WRITES = """
import sys; from pathlib import Path; import duckdb; from assay.lake import duck; from assay.lake.duck import Limits
where = Path(sys.argv[1])
for act in (
    lambda con: duck.open(Limits(), where / "new.duckdb"),
    lambda con: con.execute(f"COPY (SELECT 1 AS a) TO '{where / 'new.parquet'}'"),
    lambda con: con.execute("CREATE TABLE t AS SELECT i, md5(CAST(i AS VARCHAR)) AS m FROM range(1000000) AS t (i) ORDER BY m"),
):
    try:
        act(duck.open(Limits("40MB", 1, where / "spill")))
    except duckdb.Error as error:
        print(type(duck.meaning(error)).__name__, duck.meaning(error))
"""


def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    where = tmp_path / "closed"
    where.mkdir(mode=0o555)
    done = subprocess.run(hindered("-c", WRITES, str(where)), capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line in lines:
        assert line.startswith(f"SettingsError {where}"), line
        assert line.endswith("cannot be opened: Permission denied; the lake's owner must allow it")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT error('IO Error: No space left on device')",
        "SELECT error('Corrupt database file')",
        "SELECT error('IO Error: Could not set lock on file')",
        "SELECT CAST('No magic bytes' AS INTEGER)",
        "SELECT * FROM nothing",
    ],
)
def test_what_a_query_does_wrong_has_no_meaning_of_ours(query: str) -> None:
    with duck.open(Limits()) as con:
        assert told(lambda: con.execute(query)) is None
