with

sessions as (
  select
    security_id, date, symbol, open, high, low, close, volume,
    lag(date) over (partition by security_id order by date) as previous_date,
    lag(close) over (partition by security_id order by date) as previous_close
  from {{ ref('stg_price') }}
),

-- An event counts on the first session on or after its date.
session_splits as (
  select
    s.security_id, s.date,
    sum({{ log_decimal('cast(e.numerator as double) / cast(nullif(e.denominator, 0) as double)') }}) as log_split
  from sessions as s
  inner join {{ ref('stg_split') }} as e
    on e.security_id = s.security_id and e.date <= s.date and (e.date > s.previous_date or e.date = s.date)
  group by s.security_id, s.date
),

session_dividends as (
  select s.security_id, s.date, sum(e.dividend) as dividend
  from sessions as s
  inner join {{ ref('stg_dividend') }} as e
    on e.security_id = s.security_id and e.date <= s.date and (e.date > s.previous_date or e.date = s.date)
  group by s.security_id, s.date
),

events as (
  select
    s.security_id, s.date, s.symbol, s.open, s.high, s.low, s.close, s.volume, s.previous_close,
    coalesce(k.log_split, 0) as log_split,
    coalesce(d.dividend, 0) as dividend
  from sessions as s
  left join session_splits as k on k.security_id = s.security_id and k.date = s.date
  left join session_dividends as d on d.security_id = s.security_id and d.date = s.date
),

factors as (
  select
    security_id, date, symbol, open, high, low, close, volume, previous_close, dividend,
    {{ ratio_of('log_split') }} as split_factor,
    {{ ratio_of('sum(log_split) over (partition by security_id order by date rows unbounded preceding)') }} as shares
  from events
),

growth as (
  select
    security_id, date, symbol, open, high, low, close, volume, split_factor, shares,
    close * shares as value_held,
    {{ gross_return('close', 'dividend', 'split_factor', 'previous_close') }} as gross
  from factors
),

returns as (
  select
    security_id, date, symbol, open, high, low, close, volume, split_factor, shares, value_held,
    cast(gross - 1 as decimal(18, 12)) as return_1d,
    {{ log_decimal('gross') }} as log_return
  from growth
),

windows as (
  select
    security_id, date, symbol, open, high, low, close, volume, split_factor, return_1d, shares,
    count(*) {{ sessions(50) }} as sessions_50,
    sum(value_held) {{ sessions(20) }} as held_20,
    sum(value_held) {{ sessions(50) }} as held_50,
    count(return_1d) {{ sessions(20) }} as returns_20,
    cast(sum(return_1d) {{ sessions(20) }} as decimal(18, 12)) as sum_20,
    sum(return_1d * return_1d) {{ sessions(20) }} as squares_20,
    cast(exp(cast(coalesce(
      sum(log_return) over (partition by security_id order by date rows unbounded preceding), 0
    ) as double)) as decimal(28, 12)) as total_return_index
  from returns
),

peaks as (
  select
    security_id, date, symbol, open, high, low, close, volume, split_factor, return_1d, shares,
    sessions_50, held_20, held_50, returns_20, sum_20, squares_20, total_return_index,
    max(total_return_index) over (partition by security_id order by date rows unbounded preceding) as peak
  from windows
)

select
  security_id,
  date,
  symbol,
  open,
  high,
  low,
  close,
  volume,
  split_factor,
  return_1d,
  case
    when sessions_50 >= 20 then cast(cast(held_20 as double) / (20 * cast(shares as double)) as decimal(18, 6))
  end as sma_20,
  case
    when sessions_50 = 50 then cast(cast(held_50 as double) / (50 * cast(shares as double)) as decimal(18, 6))
  end as sma_50,
  case
    when returns_20 = 20
      then cast(sqrt(cast(20 * squares_20 - sum_20 * sum_20 as double) / (20 * 19) * 252) as decimal(18, 12))
  end as volatility_20,
  total_return_index,
  cast(cast(total_return_index as double) / cast(peak as double) - 1 as decimal(18, 12)) as drawdown
from peaks
