"""What the build makes of a dbt project that is wrong, and what dbt gets to see."""

import contextlib
import copy
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

from assay.build import compute as computing
from assay.build import dbt, yml
from assay.build.compute import Built, SilverView, compute, describe
from assay.errors import BuildFailed, ContractError, SettingsError
from assay.lake import duck
from assay.lake.project import files_of, project_hash, universes_of
from assay.lake.release import Column, Gold, Input
from assay.ports import Limits
from tests.conftest import ROOT
from tests.forked import Forked

LIMITS = Limits()
VIEWS = [
    SilverView(
        "price",
        "SELECT 'A' AS symbol, 7 AS close UNION ALL SELECT 'B', NULL",
        {"symbol": "ticker", "close": "price in {{ nothing }}"},
    )
]
FILES = {
    "dbt_project.yml": """
name: tiny
profile: assay
flags: {send_anonymous_usage_stats: false}
models: {tiny: {+materialized: table}}
""",
    "macros/schema.sql": "{% macro generate_schema_name(name, node) %}{{ name or target.schema }}{% endmacro %}",
    "seeds/extra.csv": "symbol,word\nA,a'b\n",
    "models/mart.sql": "select p.symbol, p.close, '{{ env_var('AWS_SECRET_ACCESS_KEY', 'unseen') }}' as secret "
    "from {{ source('silver', 'price') }} as p left join {{ ref('extra') }} as e on e.symbol = p.symbol",
    "models/mart.yml": """
version: 2
models:
  - name: mart
    description: Prices.
    config:
      contract: {enforced: true}
      meta: {assay: {key: [symbol], clocks: {}, inputs: [{table: silver.price, where: symbol = row.symbol}]}}
    columns:
      - {name: symbol, description: ticker, data_type: varchar, config: {meta: {assay: {classification: public}}}}
      - name: close
        description: price
        data_type: integer
        config: {meta: {assay: {classification: internal, unit: USD}}}
        data_tests: [{not_null: {config: {severity: warn}}}]
      - {name: secret, description: none, data_type: varchar, config: {meta: {assay: {classification: public}}}}
""",
}


def project(folder: Path, **files: str) -> Path:
    """The tiny project, with files added or replaced."""
    for name, text in (FILES | files).items():
        path = folder / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "project"


def endless(folder: Path) -> tuple[Path, Path]:
    """The tiny project with a model that does not end, and a file that is there once it has begun."""
    begun = folder / "begun"
    model = f"""{{{{ config(schema='stg', pre_hook="copy (select 1) to '{begun}'") }}}}
        select count(*) as n from range(10000000) as a (i), range(10000000) as b (j) where hash(a.i, b.j) = 0"""
    return project(folder, **{"models/endless.sql": model}), begun


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.md5(p.read_bytes(), usedforsecurity=False).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny project and its build in `work`."""
    folder = tmp_path_factory.mktemp("tiny")
    project(folder)
    return folder


@pytest.fixture(scope="module")
def built(tiny: Path) -> Built:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
        patch.setenv("DBT_TARGET", "nowhere")
        before = snapshot(tiny / "project")
        out = compute(tiny / "project", tiny / "work", VIEWS, LIMITS)
        assert snapshot(tiny / "project") == before, "the project is not written to"
    return out


def test_a_build_leaves_tables_descriptions_and_warnings(tiny: Path, built: Built) -> None:
    seed, mart = built.models
    assert (seed.relation, seed.kind, seed.sql) == ("gold.extra", "seed", "")
    assert (mart.relation, mart.kind) == ("gold.mart", "model")
    [gold] = built.gold
    assert (gold.name, gold.key) == ("mart", ("symbol",))
    assert gold.columns[1] == Column("close", "INTEGER", "price", "USD", "internal")
    assert gold.inputs == (Input("silver.price", "symbol = row.symbol"),)
    assert built.tests == 1
    assert [w.split(":")[0] for w in built.warnings] == ["test not_null_mart_close (models/mart.yml)"]
    with duckdb.connect(str(built.database), read_only=True) as db:
        found = db.execute("SELECT * FROM gold.mart ORDER BY symbol").fetchall()
        assert found == [("A", 7, "unseen"), ("B", None, "unseen")], "dbt sees no variable of ours"
        assert db.execute(f"SELECT * FROM ({mart.sql}) ORDER BY symbol").fetchall() == found
        assert db.execute("FROM gold.extra").fetchall() == [("A", "a'b")]
    assert not (tiny / "work" / ".user.yml").exists(), "dbt gave its user no id"


def test_the_hash_is_of_the_projects_names_and_bytes(tmp_path: Path, built: Built) -> None:
    other = project(tmp_path)
    assert project_hash(other) == built.dbt_hash
    (other / "target").mkdir()
    (other / "target" / "manifest.json").write_text("{}")
    assert project_hash(other) == built.dbt_hash
    (other / "seeds" / "extra.csv").rename(other / "seeds" / "more.csv")
    assert project_hash(other) != built.dbt_hash


@pytest.mark.slow
def test_each_failure_is_named_with_dbts_words_and_its_log(tmp_path: Path) -> None:
    wrong = project(
        tmp_path,
        **{
            "models/broken.sql": "{{ config(schema='stg') }} select no_such_column from {{ source('silver', 'price') }}",
            "models/after.sql": "{{ config(schema='stg') }} select * from {{ ref('broken') }}",
            "models/mart.yml": FILES["models/mart.yml"].replace("not_null: {config: {severity: warn}}", "not_null: {}"),
            "tests/no_price_missing.sql": "select * from {{ ref('mart') }} where close is null -- none",
            "tests/many.sql": "select i, 'two\nlines' as t, null as n from range(5) as t (i) order by i",
            "models/unit.yml": """
version: 2
unit_tests:
  - name: seven_is_eight
    model: word
    given: [{input: "source('silver', 'price')", rows: [{symbol: A, close: 7}]}]
    expect: {rows: [{close: 8}]}
""",
            "models/word.sql": "{{ config(schema='stg') }} select close from {{ source('silver', 'price') }}",
        },
    )
    with pytest.raises(BuildFailed) as caught:
        compute(wrong, tmp_path / "work", VIEWS, LIMITS)
    said = str(caught.value)
    assert said.startswith("gold was not built; nothing is released yet.\n")
    assert "test no_price_missing (tests/no_price_missing.sql): Got 1 result" in said
    lines = {line.split(" ")[1]: line.partition(" | for example ")[2] for line in said.splitlines() if " " in line}
    assert lines["no_price_missing"] == "symbol=B, close=NULL, secret=unseen"
    assert lines["not_null_mart_close"] == "symbol=B, close=NULL", "the model's key says whose null it is"
    assert lines["many"] == " | ".join(f"i={i}, t=two lines, n=NULL" for i in range(3))
    assert lines["broken"] == ""
    assert "unit test seven_is_eight (models/unit.yml): " in said
    assert "model broken (models/broken.sql): " in said
    assert "no_such_column" in said
    assert "after" not in said, "what was skipped did not fail"
    log = said.rpartition("dbt's log: ")[2]
    assert "no_such_column" in Path(log).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "views", "words"),
    [
        ({"models/more.sql": "select {{ 1 \n from x"}, VIEWS,
         "models/more.sql:2: model more: expected token 'end of print statement', got 'from'"),
        ({}, [SilverView("split", "SELECT 1 AS symbol", {})],
         "models/mart.sql: model mart depends on a source named 'silver.price' which was not found"),
    ],
)  # fmt: skip
def test_a_project_that_dbt_cannot_read_is_refused_in_a_sentence_with_the_file(
    tmp_path: Path, files: dict[str, str], views: list[SilverView], words: str
) -> None:
    with pytest.raises(BuildFailed) as caught:
        describe(project(tmp_path, **files), views, LIMITS)
    assert str(caught.value) == f"the dbt project cannot be read: {words}"


@pytest.mark.slow
def test_what_a_project_that_dbt_can_read_would_fail_on_is_said_at_once(tmp_path: Path) -> None:
    yml = FILES["models/mart.yml"].replace("not_null: {config: {severity: warn}}", "not_nul: {}")
    files = {
        "models/mart.yml": yml.replace("description: price", "descripton: price"),
        "seeds/more.csv": "a,b\n1,2,3\n",
    }
    with pytest.raises(ContractError) as caught:
        describe(project(tmp_path, **files), VIEWS, LIMITS)
    assert str(caught.value).split("\n") == [
        "models/mart.yml:12: dbt knows no `descripton` here; did you mean `description`?",
        "seed more (seeds/more.csv): Row 0 has 3 values, but Table only has 2 columns.",
        "models/mart.yml: test not_nul_mart_close: there is no test not_nul",
        "models/mart.yml: mart: describe column close",
    ]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"models/mart.yml": "models: [}"}, "models/mart.yml:1: not YAML: did not find expected node content; is the"),
        ({"models/mart.yml": "models:\n\t- name: mart\n"}, "models/mart.yml:2: not YAML: a tab stands before the text; indent"),
        ({"models/mart.yml": "models:\n  - name: mart\n   config: {}\n"}, "models/mart.yml:3: not YAML: "),
        ({"models/mart.yml": "- mart\n"}, "models/mart.yml:1: a yml of dbt begins with keys, such as `models:`"),
        ({"models/mart.yml": "model:\n  - name: mart\n"}, "models/mart.yml:1: dbt knows no `model` here; did you mean `models`?"),
        ({"models/mart.yml": "models:\n  - name: mart\n    colums: []\n"}, "3: dbt knows no `colums` here; did you mean `columns`?"),
        ({"models/mart.yml": "models:\n  - {name: mart, shape: round}\n"}, "2: dbt knows no `shape` here, and passes over it"),
        ({"models/mart.yml": "models:\n  - {name: mart, config: {materialised: view}}\n"}, "did you mean `materialized`?"),
        ({"models/mart.yml": "models:\n  - name: mart\n    columns: [{name: a, data_test: []}]\n"}, "did you mean `data_tests`?"),
        ({"models/mart.yml": "models:\n  - name: mart\n    name: mart\n"}, "3: `name` stands here twice, and dbt reads the last"),
        ({"models/mart.yml": "models:\n  - name: nart\n"}, "models/mart.yml:2: there is no nart.sql; did you mean `mart`?"),
        ({"seeds/s.yml": "seeds:\n  - name: exta\n"}, "seeds/s.yml:2: there is no exta.csv; did you mean `extra`?"),
        ({"packages.yml": "packages: []\n"}, "packages.yml: a lake's build installs no packages; copy the macros"),
        ({"dbt_project.yml": "name: tiny\nprofil: assay\n"}, "dbt_project.yml:2: dbt knows no `profil` here; did you mean `profile`?"),
        ({"dbt_project.yml": "name tiny\nprofile: assay\n"}, "dbt_project.yml:2: not YAML: mapping values are not allowed"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_yml_is_said_with_its_line_and_without_dbt(
    tmp_path: Path, files: dict[str, str], words: str
) -> None:
    here = project(tmp_path, **files)
    [said] = yml.wrong(here, files_of(here), ())
    assert words in said


def test_all_yml_files_are_complained_of_at_once_and_a_good_one_never(tmp_path: Path) -> None:
    for lake in ("csv", "http", "markets"):
        there = ROOT / "lakes" / lake / "dbt"
        assert yml.wrong(there, files_of(there), universes_of(there)) == []
    kept = "models:\n  - {name: mart, meta: {a: 1}, columns: [{name: a, meta: {b: 1}, data_tests: [mine: {c: 1}]}]}\nanchors: [&a {}]\n"
    here = project(tmp_path, **{"models/mart.yml": kept, "other/none.yml": "x: ["})
    assert yml.wrong(here, files_of(here), ()) == []
    (here / "models/a.yml").write_bytes(b"x\n\xff")
    (here / "models/b.yml").write_text("x: [")
    (here / "models/c.yml").write_text("x: 1")
    said = yml.wrong(here, files_of(here), ())
    assert [one.partition(":")[0] for one in said] == ["models/a.yml", "models/b.yml", "models/c.yml"]
    with pytest.raises(ContractError, match=r"models/a\.yml:2: not UTF-8"):
        describe(here, VIEWS, LIMITS)


@pytest.mark.slow
def test_models_that_nobody_can_compute_or_explain_are_named(tiny: Path, built: Built) -> None:
    manifest = json.loads((tiny / "work" / "target" / "manifest.json").read_bytes())
    mart = manifest["nodes"]["model.tiny.mart"]
    python = {**copy.deepcopy(manifest)}
    python["nodes"]["model.tiny.mart"]["language"] = "python"
    with pytest.raises(
        ContractError, match=r"models/mart\.sql: mart: a model in Python, whose numbers nobody can explain"
    ):
        computing._described(python, VIEWS)
    after = {**copy.deepcopy(mart), "alias": "after", "original_file_path": "models/after.sql"}
    after["depends_on"]["nodes"] = ["model.tiny.mart"]
    mart["depends_on"]["nodes"] = ["model.tiny.other"]
    other = {**copy.deepcopy(after), "alias": "other", "original_file_path": "models/other.sql"}
    manifest["nodes"] |= {"model.tiny.after": after, "model.tiny.other": other}
    with pytest.raises(ContractError) as caught:
        computing._described(manifest, VIEWS)
    circle = "models read each other in a circle: one of models/mart.sql, models/other.sql must read something else"
    assert str(caught.value).split("\n")[-1] == circle


def test_what_silver_without_rows_may_explain_is_left_to_the_build() -> None:
    def node(sql: str, macros: Sequence[str] = ()) -> dict[str, Any]:
        of = {"nodes": [], "macros": list(macros)}
        return {"name": "m", "original_file_path": "models/m.sql", "raw_code": sql, "depends_on": of}

    failed = "Runtime Error\n  Compilation Error in model m (models/m.sql)\n    None has no element 0\n"
    macros = {"macro.x": {"macro_sql": "{% do run_query('select 1') %}", "depends_on": {"macros": []}}}
    for asks, one in (
        (False, node("select 1")),
        (True, node("{{ run_query('x') }}")),
        (True, node("{{ x() }}", ["macro.x"])),
    ):
        assert computing._excused(failed, {"nodes": {"model.tiny.m": one}, "macros": macros}) is asks
    assert not computing._excused("Database Error\n  no room", {"nodes": {}, "macros": {}})


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        (
            "07:19:18  Encountered an error:\nFound a cycle: model.x.a --> model.x.b\n07:19:18  Traceback (most recent call last):\n"
            '  File "/x/dbt/cli/requires.py", line 187, in wrapper\n    result, success = func(*args, **kwargs)\n',
            "Found a cycle: model.x.a --> model.x.b",
        ),
        (
            'Runtime Error in model broken (models/broken.sql)\n  Binder Error: "no_such" not found in FROM clause!\n  \n'
            "  LINE 14: select no_such\n                  ^\n  compiled code at target/run/x.sql\n",
            'models/broken.sql: model broken: Binder Error: "no_such" not found in FROM clause!',
        ),
        (
            "Runtime Error\n  Compilation Error in model a (models/a.sql)\n    'nothing' is undefined. This can happen when calling a macro "
            'that does not exist. Check for typos and/or install package dependencies with "dbt deps".\n',
            "models/a.sql: model a: 'nothing' is undefined.",
        ),
        (
            "\x1b[0m07:20:40  Encountered an error:\nRuntime Error\n  Syntax error near line 2\n  ----------\n  1  | name\n  2  | v: 1\n",
            "Runtime Error Syntax error near line 2",
        ),
    ],
)  # fmt: skip
def test_what_dbt_prints_becomes_a_sentence(printed: str, sentence: str) -> None:
    assert dbt.sentence(printed) == sentence


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"holds no dbt_project\.yml"):
        describe(tmp_path, VIEWS, LIMITS)
    (tmp_path / "dbt_project.yml").write_text("name: x\n")
    with pytest.raises(ContractError, match="`profile: assay`"):
        describe(tmp_path, VIEWS, LIMITS)


def put(*path: str, value: Any = None) -> Callable[[dict[str, Any]], None]:
    def change(node: dict[str, Any]) -> None:
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value

    return change


META = ("config", "meta", "assay")
CLOSE = ("columns", "close", *META)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(*META, value={"kee": ["symbol"]}), "not 'kee'"),
        (put(*META, value="symbol"), "not 'assay'"),
        (put(*META, "key", value=[]), "meta.assay.key"),
        (put(*META, "key", value=["ticker"]), "'ticker', which is no column; there are close, secret, symbol"),
        (put(*META, "clocks", value={"known_from": "seen"}), "'seen', which is no column"),
        (put(*META, "clocks", value={"clock": "close"}), "not 'clock'"),
        (put(*META, "inputs", value=[]), "meta.assay.inputs"),
        (put(*META, "inputs", value=[{"table": "silver.none", "where": "true"}]), "'silver.none' is no silver view"),
        (
            put(*META, "inputs", value=[{"table": "silver.price", "where": "symbol = row.x"}]),
            "row.x is no column of the model",
        ),
        (
            put(*META, "inputs", value=[{"table": "silver.price", "where": "symbol = ROW.x"}]),
            "row.x is no column of the model",
        ),
        (
            put(*META, "inputs", value=[{"table": "silver.price", "where": "ticker = row.symbol"}]),
            "ticker is no column of the table",
        ),
        (put(*META, "inputs", value=[{"table": "silver.price", "where": "symbol = "}]), "is no predicate"),
        (put("config", "contract", "enforced", value=False), "enforced: true"),
        (put("description", value=""), "describe it"),
        (put("columns", "close", "description", value=""), "describe column close"),
        (put(*CLOSE, value={"unit": "USD"}), "column close lacks meta.assay.classification"),
        (put(*CLOSE, value={"classification": "public", "units": "USD"}), "not 'units'"),
    ],
)
def test_a_gold_model_that_says_too_little_is_refused_with_file_and_remedy(
    tiny: Path, built: Built, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    """Each on the manifest that dbt wrote, changed in one place."""
    manifest = json.loads((tiny / "work" / "target" / "manifest.json").read_bytes())
    assert computing._described(copy.deepcopy(manifest), VIEWS) == (built.models, built.gold)
    node = manifest["nodes"]["model.tiny.mart"]
    change(node)
    with pytest.raises(ContractError, match=r"^models/mart\.yml: mart: ") as caught:
        computing._described(manifest, VIEWS)
    assert words in str(caught.value)


def test_all_that_gold_models_lack_is_said_at_once(tiny: Path, built: Built) -> None:
    manifest = json.loads((tiny / "work" / "target" / "manifest.json").read_bytes())
    node = manifest["nodes"]["model.tiny.mart"]
    for change in (
        put("description", value=""),
        put(*CLOSE, value={"unit": "USD"}),
        put(*META, "inputs", value=[{"table": "silver.none", "where": "true"}]),
    ):
        change(node)
    with pytest.raises(ContractError) as caught:
        computing._described(manifest, VIEWS)
    assert [one.partition(" mart: ")[2].split(",")[0] for one in str(caught.value).splitlines()] == [
        "describe it", "column close lacks meta.assay.classification", "input 'silver.none' is no silver view; there are silver.price",
    ]  # fmt: skip


def test_what_a_library_says_of_itself_is_not_told() -> None:
    said = [
        "no such model\n",
        "nanobind: leaked 2 instances!\n",
        ' - leaked instance 0x7f of type "x"\n',
        "See https://nanobind.readthedocs.io/x\n",
    ]
    assert dbt._without_noise(said) == "no such model"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody runs dbt for this process but one that it starts."""
    monkeypatch.delenv(dbt.SHARED, raising=False)
    dbt.end()
    yield
    dbt.end()


def children(pid: int) -> list[int]:
    """The processes that this one started and that run."""
    told = {int(p.parent.name): p.read_text() for p in Path("/proc").glob("[0-9]*/status") if p.exists()}
    return [one for one, text in told.items() if f"\nPPid:\t{pid}\n" in text]


def waiting() -> subprocess.Popen[bytes]:
    """The process that runs dbt for this one."""
    assert dbt._own
    return dbt._own.process


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "end",
    [lambda one: one.kill(), lambda one: os.killpg(one.pid, signal.SIGTERM)],
    ids=["it is killed", "all of its group are told to end"],
)
def test_dbt_ends_with_the_process_that_started_it_and_leaves_nothing(
    tmp_path: Path, end: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    (slow, begun), work = endless(tmp_path), tmp_path / "work"
    scratch = Path(tempfile.mkdtemp(prefix="assay-", dir="/tmp"))  # short enough for a socket's name
    code = (
        "import sys; from pathlib import Path; from assay.build.compute import SilverView, compute; "
        "from assay.lake.duck import Limits; "
        "compute(*map(Path, sys.argv[1:]), [SilverView('price', \"SELECT 'A' AS symbol, 7 AS close\", {})], Limits())"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code, str(slow), str(work)], env=os.environ | {"TMPDIR": str(scratch)}, start_new_session=True
    )  # fmt: skip
    try:
        while not begun.exists():
            assert started.poll() is None
            time.sleep(0.05)
        with pytest.raises(duckdb.IOException, match="lock"):
            duckdb.connect(str(work / "lake.duckdb"))
        assert list(scratch.glob("assay-dbt-*"))
        end(started)
        started.wait()
        deadline = time.monotonic() + 60
        while True:
            try:
                duckdb.connect(str(work / "lake.duckdb")).close()
                break  # nobody holds its lock any more
            except duckdb.IOException:
                assert time.monotonic() < deadline, "dbt runs on, though nobody waits for it"
                time.sleep(0.05)
        while list(scratch.glob("assay-dbt-*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        shutil.rmtree(scratch)


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_runs_of_dbt_know_nothing_of_each_other(tmp_path: Path) -> None:
    """Neither those that follow on each other in one process, nor those at once, nor one whose process was killed."""
    says = {
        name: project(tmp_path / name, **{"models/said.sql": f"{{{{ config(schema='stg') }}}} select {name} as said"})
        for name in ("1", "2", "missing")
    }

    def said(name: str, work: str) -> object:
        built = compute(says[name], tmp_path / work, VIEWS, LIMITS, kept=tmp_path / "kept")
        with duck.open(LIMITS, built.database, read_only=True) as con:
            return con.execute("SELECT said FROM stg.said").fetchall()[0][0]

    assert (said("1", "a"), said("2", "b")) == (1, 2)
    with pytest.raises(BuildFailed, match='column "missing" was not found'):
        said("missing", "a")
    before = waiting()
    before.kill()
    before.wait()
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(said, ("1", "2"), ("a", "b"))) == [1, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_what_is_ready_is_what_the_next_run_uses_and_ends_at_once_without_one() -> None:
    dbt.ready()
    first = waiting()
    dbt.ready()
    assert waiting() is first
    assert dbt.run(Path("/"), "nonsense")
    assert waiting() is first
    dbt.end()
    dbt.ready()
    ended = waiting()
    dbt.end()  # while it imports dbt
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_one_process_runs_dbt_for_all_that_share_it_and_whoever_cannot_has_one_of_its_own(tmp_path: Path) -> None:
    """A fork, and a program of this Python; another Python has one of its own, and all where the folder is not this user's alone."""
    code = "import sys; from assay.build import dbt; print(dbt.run({!r}, 'nonsense'), bool(dbt._own), file=sys.stderr)"

    def own() -> bool:
        command = [sys.executable, "-c", code.format(str(tmp_path))]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr.split()
        assert "'nonsense'." in said
        return said[-1] == "True"

    with dbt.shared():
        folder = Path(os.environ[dbt.SHARED])
        assert not own()
        assert dbt.run(tmp_path, "nonsense")
        assert not dbt._own
        folder.chmod(0o755)
        assert own()
        folder.chmod(0o700)
        [socket] = (one for one in folder.iterdir() if one.name != "log")
        socket.rename(other := folder / "another")
        assert own()
        other.rename(socket)
    assert not folder.exists()
    assert dbt.SHARED not in os.environ
    assert dbt.run(tmp_path, "nonsense")
    pid = waiting().pid
    with Forked(lambda: sys.exit(7 if dbt.run(tmp_path, "nonsense") and waiting().pid == pid else 8)) as one:
        assert one.said().code == 7
    assert waiting().poll() is None, "a fork ends only what it started"


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_dbt_runs_whatever_the_name_of_the_place_for_scratch_and_without_an_input(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    code = f"from assay.build import dbt; print(dbt.run({str(tmp_path)!r}, 'nonsense'), dbt._own.folder)"
    said = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(long)}, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "No such command 'nonsense'" in said
    assert not Path(said.split()[-1]).exists()


@pytest.mark.usefixtures("alone")
def test_a_process_that_cannot_be_started_for_dbt_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as none:
        none.setattr(sys, "executable", str(tmp_path / "python"))
        with pytest.raises(SettingsError, match="python cannot be started for dbt"):
            dbt.run(tmp_path, "nonsense")
        none.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        with pytest.raises(SettingsError, match=r"which has a folder in TMPDIR: No such file"):
            dbt.run(tmp_path, "nonsense")
        dbt.ready()


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_a_fork_of_a_process_that_starts_dbt_in_another_thread_may_run_it_too(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        started = pool.submit(lambda: [(dbt.ready(), dbt.end()) for _ in range(20)])
        for _ in range(10):
            with Forked(lambda: sys.exit(7 if dbt._looking.acquire(timeout=5) else 8)) as one:
                assert one.said().code == 7
        started.result()


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_a_run_ends_with_whoever_serves_it(tmp_path: Path) -> None:
    slow, begun = endless(tmp_path)
    with ThreadPoolExecutor() as pool:
        build = pool.submit(compute, slow, tmp_path / "work", VIEWS, LIMITS)
        while not begun.exists():
            assert not build.done(), build.result()
            time.sleep(0.05)
        [serving] = children(waiting().pid)
        os.kill(serving, signal.SIGKILL)
        with pytest.raises(BuildFailed, match="the process that runs dbt has ended"):
            build.result(timeout=60)
    duckdb.connect(str(tmp_path / "work" / "lake.duckdb")).close()  # nobody holds its lock any more


# --------------------------------------------------------------------------------------------- memory, room, and time


@pytest.mark.slow
def test_a_build_spills_where_memory_ends(tmp_path: Path) -> None:
    small = Limits("60MB", 2, tmp_path)
    sorts = "select i, md5(cast(i as varchar)) as m from range(1000000) as t (i) order by m"
    with duck.open(Limits(small.memory, small.threads)) as con, pytest.raises(duckdb.OutOfMemoryException):
        con.execute(f"CREATE TABLE sorted AS {sorts}")
    spilling = project(
        tmp_path,
        **{
            "models/large.sql": f"{{{{ config(schema='stg') }}}} {sorts}",
            "models/larger.sql": "{{ config(schema='stg') }} select * from {{ ref('large') }} order by i, m",
        },
    )
    built = compute(spilling, tmp_path / "work", VIEWS, small)
    assert {m.relation for m in built.models} >= {"stg.large", "stg.larger", "gold.mart"}


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_a_project_that_did_not_change_is_described_without_dbt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    here, kept = project(tmp_path), tmp_path / "kept"

    def described(views: list[SilverView] = VIEWS) -> tuple[Gold, ...]:
        return describe(here, views, LIMITS, kept=kept)

    def needs_dbt(views: list[SilverView] = VIEWS) -> bool:
        with monkeypatch.context() as nobody:
            nobody.delenv(dbt.SHARED)
            nobody.setattr(sys, "executable", str(tmp_path / "none"))
            try:
                assert described(views) == first
            except SettingsError:
                return True
        return False

    with dbt.shared():
        first = described()
        assert [one.name for one in first] == ["mart"]
        assert not needs_dbt()
        [said] = kept.glob("*.json")
        said.write_bytes(said.read_bytes().replace(b'"mart"', b'"nart"'))
        assert needs_dbt(), "what was altered is not believed"
        assert described() == first
        assert not needs_dbt()
        more = [SilverView("price", VIEWS[0].sql, {**VIEWS[0].columns, "volume": "shares"})]
        assert needs_dbt(more)
        assert described(more) == first
        (here / "models/mart.yml").write_text(FILES["models/mart.yml"].replace("Prices.", "All prices."))
        assert needs_dbt()
        assert described()[0].description == "All prices."


@pytest.mark.slow
def test_what_a_check_read_spares_the_build_its_parse(tmp_path: Path) -> None:
    here, kept, work = project(tmp_path), tmp_path / "kept", tmp_path / "work"
    describe(here, VIEWS, LIMITS, kept=kept)

    def read_anew() -> bool:
        compute(here, work, VIEWS, LIMITS, kept=kept)
        log = (work / "logs" / "dbt.log").read_text(encoding="utf-8")
        return "Partial parsing enabled: 0 files deleted, 0 files added, 0 files changed" not in log

    [parsed] = kept.glob("*.msgpack")
    assert not read_anew()
    data = b"no manifest"
    parsed.write_bytes(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)  # ours, and still nothing dbt can read
    assert read_anew()
    assert data not in parsed.read_bytes(), "it was kept again"


@pytest.mark.slow
def test_a_place_that_keeps_nothing_hinders_nobody(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file, where the directory should be")
    assert [one.name for one in describe(project(tmp_path), VIEWS, LIMITS, kept=tmp_path / "kept")] == ["mart"]


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_a_full_disk_inside_dbt_is_told_to_the_lakes_owner(tmp_path: Path) -> None:
    """A limit of the process on the size of a file stands for the disk: the system says no in the same words."""
    large = "{{ config(schema='stg') }} select i, md5(cast(i as varchar)) as m from range(2000000) as t (i)"
    here = project(tmp_path, **{"models/large.sql": large})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, hard))
    try:
        with pytest.raises(SettingsError, match=f"no room left below {tmp_path}: free some and build again; the last"):
            compute(here, tmp_path / "work", VIEWS, LIMITS, served=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
