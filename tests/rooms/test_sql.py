"""Free SQL: what people need is answered, and everything else is refused by both parsers."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pytest

from assay import guard
from assay.errors import UsageError
from assay.serve import fenced, sql
from assay.serve.fenced import Result
from tests.rooms import serving_lake

FINE = """
select * from fct_price
from silver.price_eod select symbol
table gold.fct_price
SELECT Symbol FROM GOLD.FCT_PRICE
select symbol, count(*), count(distinct date), avg(close) from gold.fct_price group by 1 order by 1
with a as (select * from fct_price), b as (select a.symbol, a.close from a join a as c using (symbol, date)) select max(close) from b
with x as (select 1 as n) select * from (with x as (select 2 as n) select n from x) y, x
select date_trunc('month', date) m, quantile_cont(close, 0.5), stddev_samp(close), median(close) from fct_price group by all order by all
select symbol, lag(close) over (partition by symbol order by date) p from fct_price qualify row_number() over (partition by symbol order by date desc) = 1
select first_value(close) over w from fct_price window w as (partition by symbol order by date rows between 3 preceding and current row)
select * exclude (note) from fct_price where date between date '2024-01-01' and date '2024-01-09' and symbol in ('AAA', 'BRK.B') and note is not null
select symbol from fct_price union select symbol from silver.price_eod except select 'AAA' order by 1
select case when close > 100 then 'hi' else 'lo' end k, count(*) filter (where even) from fct_price group by k having count(*) > 1
select f.symbol, s.high from fct_price f left join silver.price_eod s on f.symbol = s.symbol and f.date = s.date
select (select max(date) from fct_price), exists(select 1 from fct_price where close < 0)
select round(close, 2), close::double, try_cast(note as int), upper(symbol) || 'x', extract(year from date), strftime(date, '%Y') from fct_price
select date + interval 3 day, date - interval '1' month, priced_at at time zone 'UTC', md5(symbol), regexp_matches(symbol, 'A+') from fct_price
select coalesce(note, '-'), ifnull(score, 0), greatest(open, close), abs(-1), 7 // 2, 7 % 2, 2 ** 3, nullif(1, 1), isnan(score) from fct_price
select symbol like 'A%', symbol ilike 'a%', not even, close is distinct from open from fct_price
select * from (values (1, 'a'), (2, 'b')) v(x, y)
select arg_max(symbol, close), any_value(symbol), mode(length(symbol)), corr(open, close), percentile_cont(0.5) within group (order by close) from fct_price
select symbol, sum(volume) from fct_price group by rollup(symbol)
select distinct on (symbol) symbol, date from fct_price order by symbol, date desc
select last_day(date), dayname(date), isodow(date), week(date), date_diff('day', date, date '2024-05-01'), make_date(2024, 1, 2) from fct_price
select ntile(4) over (order by close), percent_rank() over (order by close), nth_value(close, 2) over (order by date) from fct_price
select bool_and(even), var_samp(close), ln(2), log10(3), sqrt(4), floor(1.5), sign(-1), trunc(1.5), split_part(symbol, '.', 1) from fct_price group by all
select a.symbol from silver.price_eod_versions a cross join (select 1) b
select 1 /* ; */ -- drop table x
select l.top from fct_price f, lateral (select max(close) as top from fct_price g where g.symbol = f.symbol) l
""".strip().splitlines()

HOSTILE = r"""
insert into gold.fct_price select * from gold.fct_price
update gold.fct_price set close = 1
delete from gold.fct_price
truncate gold.fct_price
drop table gold.fct_price
drop view silver.price_eod
create table x as select 1
create or replace view gold.fct_price as select 1
create macro f(x) as x
create secret s (type s3)
alter table gold.fct_price add column x int
merge into gold.fct_price using fct_price on true when matched then delete
with x as (insert into gold.fct_price select * from gold.fct_price returning *) select * from x
with x as (delete from gold.fct_price returning *) select * from x
with x as (update gold.fct_price set close = 1 returning *) select * from x
with x as materialized (insert into gold.fct_price values (1) returning *) select 1
select * from (insert into gold.fct_price select 1 returning *)
copy gold.fct_price to '/tmp/x.csv'
copy (select 1) to '/tmp/x.parquet' (use_tmp_file false)
copy gold.fct_price from '/etc/passwd'
export database '/tmp/x'
import database '/tmp/x'
attach '/tmp/x.db'
attach '/tmp/x.db' as y (read_only)
detach _fct_price
use memory
pragma database_list
pragma table_info('fct_price')
call pragma_version()
set memory_limit = '10GB'
set python_enable_replacements = true
reset memory_limit
load httpfs
install httpfs
install httpfs from 'http://127.0.0.1/'
checkpoint
vacuum
analyze
begin transaction
commit
prepare p as select 1
execute p
deallocate p
explain select 1
explain analyze select * from gold.fct_price
describe gold.fct_price
summarize gold.fct_price
show tables
show all tables
select * from (describe gold.fct_price)
select * from (show tables)
select * from (summarize gold.fct_price)
select * from (pivot gold.fct_price on symbol using sum(close))
pivot gold.fct_price on symbol using sum(close)
unpivot gold.fct_price on close into name n value v
select * from gold.fct_price pivot (sum(close) for symbol in ('AAA'))
from '/etc/passwd'
select * from '/etc/passwd'
select * from "/etc/passwd"
select * from '/tmp/*.csv'
select * from "data.parquet"
select * from 'http://127.0.0.1/x.csv'
select * from 's3://bucket/x.parquet'
select * from read_csv('/etc/passwd')
select * from read_csv_auto('/etc/passwd')
select * from read_text('/etc/passwd')
select * from read_blob('/etc/passwd')
select * from read_json('/etc/passwd')
select * from read_ndjson_objects('/etc/passwd')
select * from read_parquet('/tmp/x.parquet')
select * from parquet_metadata('/tmp/x.parquet')
select * from parquet_scan('/tmp/x.parquet')
select * from sniff_csv('/etc/passwd')
select * from glob('/*')
select read_text('/etc/passwd')
select getenv('HOME')
select current_setting('memory_limit')
select getvariable('x')
select current_user
select current_schema()
select version()
select error('x')
select sleep_ms(100000)
select pg_sleep(100000)
select nextval('s')
select write_log('x')
select query('select 1')
select * from query('select 1')
select * from query_table('gold.fct_price')
select * from query_table(['gold.fct_price'])
select json_serialize_sql('select 1')
select * from json_execute_serialized_sql('{}')
select * from duckdb_settings()
select * from duckdb_tables()
select * from duckdb_secrets()
select * from duckdb_functions()
select * from pragma_database_size()
select * from duckdb_settings
select * from sqlite_master
select * from pg_catalog.pg_tables
select * from information_schema.tables
select * from information_schema.schemata
select * from system.information_schema.tables
select * from main.fct_price
select * from _fct_price.main.fct_price
select * from _fct_price.fct_price
select * from memory.gold.fct_price
select * from memory.silver.price_eod
select * from "gold"."fct_price"."x"
select * from "gold.fct_price"."y"
select * from "_cte_x"
select * from silver.price_eod_observed
select * from silver.price_eod_past
select * from _price_eod_past
select * from stg.price
select * from price_eod
select * from range(1000000000)
select * from generate_series(1, 1000000000)
select * from unnest([1, 2])
select unnest([1, 2])
select * from repeat_row(1, num_rows = 1000000000)
select repeat('x', 2000000000)
select lpad('x', 2000000000, 'x')
select format('{:>2000000000}', 'x')
select printf('%2000000000d', 1)
select list_resize([1], 2000000000)
select list_transform([1, 2], x -> x)
select array_agg(x) from (select 1 as x)
select [1, 2]
select {'a': 1}
select map {'a': 1}
select (fct_price).close from fct_price
select columns('.*') from fct_price
select * from fct_price using sample 10
select * from fct_price tablesample 10%
select * from fct_price at (version => 1)
select * from fct_price for update
select * into x from fct_price
select $1
select ?
select $name
select #1 from fct_price
select 'x' collate nocase
select cast('x' as enum('a'))
select cast(1 as nosuch)
select 'gold'::regclass
select try(error('x'))
select try(1 / 0)
select 1; select 2
select 1; drop table gold.fct_price
; ;
/* a */ delete from gold.fct_price
select 1 /* ; */ ; -- x
values (1, 2)
select $$x$$ from read_text($$/etc/passwd$$)
select * from fct_price, read_text('/etc/passwd')
select * from fct_price left join read_text('/etc/passwd') on true
select (select content from read_text('/etc/passwd'))
select * from fct_price where exists (select * from read_text('/etc/passwd'))
select * from fct_price order by (select count(*) from glob('/*'))
select * from fct_price limit (select count(*) from glob('/*'))
select sum(close) over (order by (select count(*) from glob('/*'))) from fct_price
select * from fct_price natural join information_schema.tables
select * from fct_price positional join duckdb_settings()
select 1 union all select value from duckdb_settings()
select 1 intersect (select content from read_text('/etc/passwd'))
with a as (select * from read_text('/etc/passwd')) select * from a
with gold as (select 1) select * from gold.nothing
with fct_price as (select 1) select * from fct_price
with "gold.fct_price" as (select 1) select * from "gold.fct_price"
with "/etc/passwd" as (select 1) select * from (select * from "/etc/passwd")
with "x.csv" as (select 1) select 1 from "x.csv"
with recursive a as (select 1 as n union all select n + 1 from a) select * from a
select 'x'.read_text()
select read_text.content from read_text('/etc/passwd')
select "read_text"('/etc/passwd')
select main.read_text('/etc/passwd')
select system.main.getenv('HOME')
select pg_catalog.version()
select ｒead_text('/etc/passwd')
select * from fct_price; attach 'x'
""".strip().splitlines()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory):
    made = serving_lake.build(tmp_path_factory.mktemp("sql"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def tables(lake):
    return lake.reader().names


@pytest.fixture(scope="module")
def con(lake):
    made = lake.reader().connect(locked=True)
    yield made
    made.close()


def ask(lake, text: str, **options: Any) -> Result:
    """A question as people ask it: through the fence."""
    t = lake.local
    with fenced.asked(t.files, lake.reader().release, t.limits, text, **options) as found:
        return Result(found.columns, tuple(found.rows), found.truncated)


@pytest.mark.parametrize("text", FINE)
def test_a_question_people_ask_is_answered_as_duckdb_answers_it(lake, con, text):
    result = ask(lake, text, limit=1000)
    plain = text.replace("from fct_price", "from gold.fct_price").replace("GOLD.FCT_PRICE", "gold.fct_price")
    assert result.rows
    assert sorted(map(repr, result.rows)) == sorted(map(repr, con.execute(plain).fetchall()))


@pytest.mark.parametrize("text", HOSTILE)
def test_everything_else_is_refused_before_it_runs(lake, con, text):
    before = con.execute("select count(*), sum(close) from gold.fct_price").fetchall()
    with pytest.raises(UsageError) as refused:
        ask(lake, text)
    assert "root:" not in str(refused.value)
    assert con.execute("select count(*), sum(close) from gold.fct_price").fetchall() == before


def test_there_are_enough_attacks():
    assert len(set(HOSTILE)) >= 150


# the engine's parser sees nothing wrong in these, and there is nothing to win by them
HARMLESS = {
    "select current_user",
    "select cast('x' as enum('a'))",
    "select cast(1 as nosuch)",
    "select 'gold'::regclass",
    "select 1 /* ; */ ; -- x",
    "values (1, 2)",
}


@pytest.mark.parametrize("text", [one for one in HOSTILE if one not in HARMLESS])
def test_the_engines_own_parser_alone_refuses_them_too(con, tables, text):
    """`verify` sees the caller's text here, as if the first guard had let it pass unchanged."""
    with pytest.raises(UsageError):
        sql.verify(con, text, set(tables))


def test_verify_accepts_what_the_guard_wrote(con, tables):
    for text in FINE:
        sql.verify(con, guard.query(text, sql.named(tables)), set(tables))


def test_an_insert_in_a_with_is_a_select_to_duckdb_but_not_to_verify(con, tables):
    text = "with x as (insert into gold.fct_price select * from gold.fct_price returning *) select * from x"
    assert con.extract_statements(text)[0].type == duckdb.StatementType.SELECT
    with pytest.raises(UsageError, match="INSERT"):
        sql.verify(con, text, set(tables))


def test_a_name_outside_its_with_stands_for_nothing_else(lake, tmp_path, monkeypatch):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\nsecret\n")
    monkeypatch.chdir(tmp_path)
    hidden = [("secret",)]  # noqa: F841 - DuckDB would find it by its name
    for text in (
        "select * from hidden",
        "select * from hidden, (with hidden as (select 1) select * from hidden) x",
        "select * from duckdb_settings, (with duckdb_settings as (select 1) select * from duckdb_settings) x",
    ):
        with pytest.raises(UsageError):
            ask(lake, text)


def test_with_parts_that_double_are_refused_at_once(lake):
    parts = ["c0 as (select 1 as n)"] + [f"c{i} as (select a.n from c{i - 1} a, c{i - 1} b)" for i in range(1, 40)]
    with pytest.raises(UsageError, match="more than 200 times"):
        ask(lake, f"with {', '.join(parts)} select count(*) from c39")
    chain = ["c0 as (select 1 as n)"] + [f"c{i} as (select n from c{i - 1})" for i in range(1, 40)]
    assert ask(lake, f"with {', '.join(chain)} select n from c39").rows == ((1,),)


@pytest.mark.parametrize(
    "text",
    [
        "select " + "(" * 151 + "1" + ")" * 151,
        "select " + "case when true then " * 200 + "1" + " end" * 200,
        "select " + "1," * 6000 + "1",
        "x" * 20_001,
    ],
)
def test_what_is_too_big_or_deep_is_refused(lake, text):
    with pytest.raises(UsageError):
        ask(lake, text)


def test_rows_beyond_the_limit_are_told(lake):
    some = ask(lake, "select symbol, date from fct_price order by 1, 2", limit=7)
    assert len(some.rows) == 7
    assert some.truncated
    assert some.columns == ("symbol", "date")
    assert not ask(lake, "select symbol from fct_price limit 7", limit=7).truncated


def test_errors_say_where_and_never_quote_cells(lake):
    for text, said in {
        "select symbol,\n  nope from fct_price": r"line 2, column 3.*nope",
        "select symbol\nfrom nowhere": r"'nowhere' \(line 2, column 6\); there are fct_price",
        "select foo(symbol) from fct_price": r"function foo is not allowed in a query \(line 1, column 8\)",
        "select from where": r"not valid SQL",
        "select * from fct_price where": r"not valid SQL at line 1, column 29: something is missing",
    }.items():
        with pytest.raises(UsageError, match=said) as refused:
            ask(lake, text)
        assert guard.CTE not in str(refused.value)
    with pytest.raises(UsageError) as refused:
        ask(lake, "select cast(note as int) from fct_price")
    assert "quoted" not in str(refused.value)


@pytest.mark.parametrize(
    "rule",
    ["select 1", "(select 1)", "read_text('x')", "a in (select 1)", "b.a > 1", "nope > 1", "a > 1; a > 2", "a > (", "getenv('x')", "sum(a) > 1",
     "a > random()", "repeat('x', 9) = a", "cast(a as nosuch) = 1", "a -> 'x'", "columns('a') > 1", "* > 1", "a > ?", "a[1] = 1", "now() > a", "a + 1", "(length(a))", "1", ""],
)  # fmt: skip
def test_a_contracts_rule_is_a_plain_expression_over_its_columns(rule):
    with pytest.raises(UsageError):
        guard.expression(rule, ["a"])


@pytest.mark.parametrize(
    "rule",
    [
        "a > 0",
        "a >= 1 and (a < 2 or a is null)",
        "length(trim(a)) between 1 and 9",
        "regexp_matches(a, '^x')",
        "cast(a as decimal(9,2)) in (1, 2)",
    ],
)
def test_rules_people_write_pass(rule):
    assert guard.expression(rule, ["a"])


def test_two_at_once_do_not_share_a_verdict(lake):
    """Each is answered by a process of its own, and nothing of one question stays for the next."""
    asked = [("select 1 from fct_price", True), ("select * from '/etc/passwd'", False)] * 10

    def fine(text: str) -> bool:
        try:
            return bool(ask(lake, text).rows)
        except UsageError:
            return False

    with ThreadPoolExecutor(2) as both:
        assert list(both.map(fine, [text for text, _ in asked])) == [wanted for _, wanted in asked]


def test_the_list_of_functions_holds_none_that_touches_the_outside():
    con = duckdb.connect()
    told = json.dumps(sorted(guard.functions()))
    for name in (
        "read_",
        "glob",
        "getenv",
        "setting",
        "variable",
        "query",
        "sleep",
        "secret",
        'log"',
        "copy",
        "nextval",
        "error",
    ):
        assert name not in told.replace('"log"', "")
    there = {n for (n,) in con.execute("select distinct lower(function_name) from duckdb_functions()").fetchall()}
    kinds = {
        k
        for (k,) in con.execute(
            "select distinct function_type from duckdb_functions() where lower(function_name) in (select unnest(?)) and function_type like 'table%'",
            [list(guard.functions())],
        ).fetchall()
    }
    assert there
    assert not kinds
    con.close()


def test_columns_that_double_each_other_are_refused_before_the_engine_plans_them() -> None:
    doubling = "select 1 as a0, " + ", ".join(f"a{n}+a{n} as a{n + 1}" for n in range(20))
    with pytest.raises(UsageError, match="uses earlier columns so often"):
        guard.query(doubling, {})
    assert guard.query("select 1 as a, a + a as b, b + a as c", {})


@pytest.mark.parametrize(
    "text",
    ["set x = 1", "call f()", "attach 'x'", "explain analyze select 1", "select a -> '$[[' from t"],
)
def test_the_parser_logs_nothing_of_what_people_write(text, caplog):
    with pytest.raises(UsageError):
        guard.query(text, {"t": "s.t"})
    assert caplog.records == []


def test_importing_the_guard_changes_nothing_of_its_host():
    code = """
import logging

log = logging.getLogger("sqlglot")
before = (log.level, log.filters[:], log.handlers[:], log.disabled, log.propagate)
import assay.guard
assert before == (log.level, log.filters, log.handlers, log.disabled, log.propagate)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
