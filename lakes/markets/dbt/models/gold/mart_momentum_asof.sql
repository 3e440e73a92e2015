-- Everything here is read as it was known at the close of the as-of date (`cutoff`): later versions are not seen.
with

prices as (
  select security_id, symbol, date, close, known_from, known_to
  from {{ ref('stg_price_version') }}
),

month_ends as (
  select max(date) as as_of_date
  from prices
  group by date_trunc('month', date)
),

cutoffs as (
  select p.security_id, m.as_of_date, min(p.known_from) as cutoff
  from month_ends as m
  inner join prices as p on p.date = m.as_of_date
  group by p.security_id, m.as_of_date
),

known_prices as (
  select
    c.security_id, c.as_of_date, c.cutoff, p.symbol, p.date, p.close,
    row_number() over (partition by c.security_id, c.as_of_date order by p.date desc) - 1 as sessions_ago,
    lag(p.date) over (partition by c.security_id, c.as_of_date order by p.date) as previous_date,
    lag(p.close) over (partition by c.security_id, c.as_of_date order by p.date) as previous_close
  from cutoffs as c
  inner join prices as p
    on p.security_id = c.security_id
    and p.date <= c.as_of_date and p.date > c.as_of_date - interval '400' day
    and p.known_from <= c.cutoff and (p.known_to is null or p.known_to > c.cutoff)
),

known_splits as (
  select
    p.security_id, p.as_of_date, p.date,
    sum({{ log_decimal('cast(e.numerator as double) / cast(nullif(e.denominator, 0) as double)') }}) as log_split
  from {{ ref('stg_split_version') }} as e
  inner join known_prices as p
    on p.security_id = e.security_id
    and e.known_from <= p.cutoff and (e.known_to is null or e.known_to > p.cutoff)
    and e.date <= p.date and (e.date > p.previous_date or e.date = p.date)
  group by p.security_id, p.as_of_date, p.date
),

known_dividends as (
  select p.security_id, p.as_of_date, p.date, sum(e.dividend) as dividend
  from {{ ref('stg_dividend_version') }} as e
  inner join known_prices as p
    on p.security_id = e.security_id
    and e.known_from <= p.cutoff and (e.known_to is null or e.known_to > p.cutoff)
    and e.date <= p.date and (e.date > p.previous_date or e.date = p.date)
  group by p.security_id, p.as_of_date, p.date
),

growth as (
  select
    p.security_id, p.as_of_date, p.cutoff, p.symbol, p.sessions_ago,
    {{ gross_return('p.close', 'coalesce(d.dividend, 0)', 'coalesce(k.log_split, 0)', 'p.previous_close') }} as gross
  from known_prices as p
  left join known_splits as k
    on k.security_id = p.security_id and k.as_of_date = p.as_of_date and k.date = p.date
  left join known_dividends as d
    on d.security_id = p.security_id and d.as_of_date = p.as_of_date and d.date = p.date
  where p.sessions_ago <= 252
),

returns as (
  select
    security_id, as_of_date, cutoff, symbol, sessions_ago,
    {{ if_told('gross', log_decimal('gross')) }} as log_return
  from growth
),

totals as (
  select
    security_id, as_of_date, cutoff,
    max(case when sessions_ago = 0 then symbol end) as symbol,
    count(*) as sessions_used,
    {{ total_if_all('log_return', 21, 251) }} as log_12_1,
    {{ total_if_all('log_return', 21, 125) }} as log_6_1
  from returns
  group by security_id, as_of_date, cutoff
),

momentum as (
  select
    security_id, as_of_date, cutoff, symbol, sessions_used,
    {{ if_told(ratio_of('log_12_1'), 'cast(' ~ ratio_of('log_12_1') ~ ' - 1 as decimal(18, 12))') }} as momentum_12_1,
    {{ if_told(ratio_of('log_6_1'), 'cast(' ~ ratio_of('log_6_1') ~ ' - 1 as decimal(18, 12))') }} as momentum_6_1
  from totals
),

-- A security whose own price became known later than the others' is ranked among all, they without it.
ranks as (
  select
    c.cutoff, m.security_id, m.as_of_date,
    rank() over (partition by c.as_of_date, c.cutoff order by m.momentum_12_1 desc) as rank
  from (select distinct as_of_date, cutoff from cutoffs) as c
  inner join momentum as m on m.as_of_date = c.as_of_date and m.cutoff <= c.cutoff
  where m.momentum_12_1 is not null
)

select
  m.security_id,
  m.as_of_date,
  m.symbol,
  m.momentum_12_1,
  m.momentum_6_1,
  r.rank,
  m.sessions_used,
  m.cutoff as known_from
from momentum as m
left join ranks as r on r.security_id = m.security_id and r.as_of_date = m.as_of_date and r.cutoff = m.cutoff
