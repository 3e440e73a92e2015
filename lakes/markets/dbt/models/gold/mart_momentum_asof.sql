-- Everything here is read as it was known at the close of the as-of date (`cutoff`): later versions are not seen. A month ends
-- with the security's own last session in it; its rank is among all that had a session of that month known by then.
with

prices as (
  select security_id, symbol, date, close, known_from, known_to, backfilled
  from {{ ref('stg_price_version') }}
),

month_ends as (
  select security_id, cast(date_trunc('month', date) as date) as month, max(date) as as_of_date
  from prices
  group by security_id, date_trunc('month', date)
),

cutoffs as (
  select m.security_id, m.month, m.as_of_date, min(p.known_from) as cutoff
  from month_ends as m
  inner join prices as p on p.security_id = m.security_id and p.date = m.as_of_date
  group by m.security_id, m.month, m.as_of_date
),

seen_prices as (
  select
    c.month, c.cutoff, p.security_id, p.symbol, p.date, p.close, p.backfilled,
    max(p.date) over (partition by c.month, c.cutoff, p.security_id) as last_date
  from (select distinct month, cutoff from cutoffs) as c
  inner join prices as p
    on p.date < c.month + interval '1' month and p.date > c.month - interval '400' day
    and p.known_from <= c.cutoff and (p.known_to is null or p.known_to > c.cutoff)
),

known_prices as (
  select
    month, cutoff, security_id, symbol, date, close, backfilled,
    row_number() over (partition by month, cutoff, security_id order by date desc) - 1 as sessions_ago,
    lag(date) over (partition by month, cutoff, security_id order by date) as previous_date,
    lag(close) over (partition by month, cutoff, security_id order by date) as previous_close
  from seen_prices
  where last_date >= month and date > last_date - interval '400' day
),

known_splits as (
  select
    p.month, p.cutoff, p.security_id, p.date,
    {{ log_of_splits('e.numerator', 'e.denominator') }} as log_split,
    bool_or(e.backfilled) as backfilled
  from {{ ref('stg_split_version') }} as e
  inner join known_prices as p
    on p.security_id = e.security_id
    and e.known_from <= p.cutoff and (e.known_to is null or e.known_to > p.cutoff)
    and e.date <= p.date and (e.date > p.previous_date or e.date = p.date)
  group by p.month, p.cutoff, p.security_id, p.date
),

known_dividends as (
  select p.month, p.cutoff, p.security_id, p.date, sum(e.dividend) as dividend, bool_or(e.backfilled) as backfilled
  from {{ ref('stg_dividend_version') }} as e
  inner join known_prices as p
    on p.security_id = e.security_id
    and e.known_from <= p.cutoff and (e.known_to is null or e.known_to > p.cutoff)
    and e.date <= p.date and (e.date > p.previous_date or e.date = p.date)
  group by p.month, p.cutoff, p.security_id, p.date
),

growth as (
  select
    p.month, p.cutoff, p.security_id, p.symbol, p.sessions_ago,
    p.backfilled or coalesce(k.backfilled, false) or coalesce(d.backfilled, false) as backfilled,
    {{ gross_return('p.close', 'coalesce(d.dividend, 0)', 'case when k.date is null then 0 else k.log_split end', 'p.previous_close') }} as gross
  from known_prices as p
  left join known_splits as k
    on k.month = p.month and k.cutoff = p.cutoff and k.security_id = p.security_id and k.date = p.date
  left join known_dividends as d
    on d.month = p.month and d.cutoff = p.cutoff and d.security_id = p.security_id and d.date = p.date
  where p.sessions_ago <= 252
),

returns as (
  select
    month, cutoff, security_id, symbol, sessions_ago, backfilled,
    {{ if_told('gross', log_decimal('gross')) }} as log_return
  from growth
),

totals as (
  select
    month, cutoff, security_id,
    max(case when sessions_ago = 0 then symbol end) as symbol,
    count(*) as sessions_used,
    bool_or(backfilled) as backfilled,
    {{ total_if_all('log_return', 21, 251) }} as log_12_1,
    {{ total_if_all('log_return', 21, 125) }} as log_6_1
  from returns
  group by month, cutoff, security_id
),

momentum as (
  select
    month, cutoff, security_id, symbol, sessions_used, backfilled,
    {{ if_told(ratio_of('log_12_1'), 'cast(' ~ ratio_of('log_12_1') ~ ' - 1 as decimal(18, 12))') }} as momentum_12_1,
    {{ if_told(ratio_of('log_6_1'), 'cast(' ~ ratio_of('log_6_1') ~ ' - 1 as decimal(18, 12))') }} as momentum_6_1
  from totals
),

ranks as (
  select
    month, cutoff, security_id,
    rank() over (partition by month, cutoff order by momentum_12_1 desc) as rank
  from momentum
  where momentum_12_1 is not null
)

select
  m.security_id,
  c.as_of_date,
  m.symbol,
  m.momentum_12_1,
  m.momentum_6_1,
  r.rank,
  m.sessions_used,
  m.backfilled,
  m.cutoff as known_from
from cutoffs as c
inner join momentum as m on m.security_id = c.security_id and m.month = c.month and m.cutoff = c.cutoff
left join ranks as r on r.security_id = c.security_id and r.month = c.month and r.cutoff = c.cutoff
