"""Questions that the guard lets pass and that are too much for the engine: while it plans, where nothing stops it, or while it runs."""

_T = "gold.fct_price"


def _nested(inner: str, outer: str, times: int) -> str:
    for n in range(times):
        inner = outer.format(inner, n=n)
    return inner


def _replaced(of: str) -> str:
    return _nested(of, "replace({0}, 'x', 'xxxxxxxxxx')", 9)


BOMBS = {
    "a constant string that grows tenfold nine times, while it plans": f"select length({_replaced(repr('x' * 10))})",
    "a string that grows tenfold nine times, in every row": f"select length({_replaced('md5(symbol) || ' + repr('x' * 10))}) from {_T}",
    "a string that doubles in forty subqueries": f"select length(a) from ({_nested('select symbol as a from ' + _T, 'select a || a as a from ({0})', 40)})",
    "an empty pattern replaced by much": f"select length({_nested('symbol', 'regexp_replace({0}, ' + repr('') + ', repeat_, ' + repr('g') + ')', 12)}) from (select symbol, symbol || '{'y' * 5000}' as repeat_ from {_T})",
    "strings collected in a window": f"select max(symbol || '{'z' * 9000}') over (order by a.date rows between 100000 preceding and current row) from {_T} a, {_T} b, {_T} c".replace("symbol ||", "a.symbol ||"),
    "columns that double in thirty parts": "with c0 as (select * from gold.fct_price), "
    + ", ".join(f"c{n} as (select *, * from c{n - 1})" for n in range(1, 31))
    + " select count(*) from c30",
    "stars without end": f"select {', '.join(['*'] * 2400)} from {_T} a, {_T} b",
    "a cube of twelve columns": f"select count(*) from {_T} group by cube({', '.join(f'close + {n}' for n in range(12))})",
    "two cubes": f"select count(*) from {_T} group by cube({', '.join(f'close + {n}' for n in range(5))}), cube({', '.join(f'open + {n}' for n in range(5))})",
    "ninety tables joined": "select count(*) from gold.fct_price t0 " + " ".join(f"join gold.fct_price t{n} on t{n}.close > t{n - 1}.close and t{n}.open < t{n // 2}.open" for n in range(1, 90)),
    "laterals chained": "select count(*) from gold.fct_price f" + "".join(f", lateral (select max(g.close) + {'f.close' if n == 0 else f'l{n - 1}.a'} as a from gold.fct_price g where g.close < {'f.close' if n == 0 else f'l{n - 1}.a'}) l{n}" for n in range(60)),
    "subqueries of subqueries, each of the one above": f"select {_nested('1', '(select max(t{n}.close) from gold.fct_price t{n} where t{n}.close > {0})', 18)}",
    "counts of distinct values over windows": f"select sum(n) from (select count(distinct a.close * b.close) over (partition by a.even order by b.close rows between 1000000 preceding and current row) as n from {_T} a, {_T} b, (select * from {_T} limit 60) c)",
    "medians over windows": f"select sum(n) from (select median(a.close * b.close) over (order by b.close, a.close rows between 90000 preceding and 90000 following) as n from {_T} a, {_T} b, (select * from {_T} limit 20) c)",
    "modes over windows": f"select max(n) from (select mode(a.symbol || b.close) over (order by b.close, a.close rows between 90000 preceding and 90000 following exclude ties) as n from {_T} a, {_T} b, (select * from {_T} limit 20) c)",
    "a pattern that backtracks": f"select count(*) from {_T} a, {_T} b where ('{'a' * 9000}' || a.symbol) like '{'%a_' * 2000}b%'",
    "everything joined with everything": f"select count(*) from {_T} a, {_T} b, {_T} c, {_T} d where a.close * b.close > c.close * d.close + a.open",
    "everything sorted": f"select a.note || b.note || '{'s' * 500}' as s from {_T} a, {_T} b, {_T} c order by s || a.symbol, b.close + c.close",
    "everything told": f"select a.*, b.*, c.* from {_T} a, {_T} b, {_T} c, {_T} d",
    "large rows": f"select {_nested('a.symbol', 'replace({0}, ' + repr('A') + ', ' + repr('AAAAAAAAAA') + ')', 6)} from {_T} a, {_T} b",
    "many groups": f"select a.close, b.close, c.close, d.date, count(distinct a.symbol || b.symbol) from {_T} a, {_T} b, {_T} c, {_T} d group by all",
    "truths that multiply": "select count(*) from gold.fct_price where " + " and ".join(f"(close = {n} or open = {n + 1} or volume = {n} and close > {n})" for n in range(150)),
    "a case of cases": f"select {_nested('close', 'case when {0} > {n} then 1 else 2 end', 30)} from {_T}",
    "a union of a hundred": " union ".join([f"select a.close + b.close * c.close from {_T} a, {_T} b, {_T} c"] * 60),
    "numbers without end": f"select {_nested('close', '({0}) ** 9', 30)} from {_T}",
}  # fmt: skip

# What this engine answers in time; others may not.
TAME = {
    BOMBS[name]
    for name in (
        "subqueries of subqueries, each of the one above", "a pattern that backtracks", "truths that multiply",
        "a case of cases", "numbers without end",
    )
}  # fmt: skip
