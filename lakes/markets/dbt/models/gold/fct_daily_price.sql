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
    {{ log_of_splits('e.numerator', 'e.denominator') }} as log_split
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
    case when k.date is null then 0 else k.log_split end as log_split,
    coalesce(d.dividend, 0) as dividend
  from sessions as s
  left join session_splits as k on k.security_id = s.security_id and k.date = s.date
  left join session_dividends as d on d.security_id = s.security_id and d.date = s.date
),

growth as (
  select
    security_id, date, symbol, open, high, low, close, volume, previous_close, log_split,
    case when count(log_split) {{ so_far() }} = count(*) {{ so_far() }} then sum(log_split) {{ so_far() }} end as log_shares,
    first_value(close) {{ so_far() }} as first_close,
    {{ gross_return('close', 'dividend', 'log_split', 'previous_close') }} as gross
  from events
),

-- What one unit of the first session is worth, in units of its close: of equal size whatever the price's.
returns as (
  select
    security_id, date, symbol, open, high, low, close, volume, log_split, log_shares, first_close,
    {{ if_told('gross', 'cast(gross - 1 as decimal(18, 12))') }} as return_1d,
    {{ if_told('gross', log_decimal('gross')) }} as log_return,
    case when previous_close is not null then 1 else 0 end as is_later,
    cast(close as double) * {{ ratio_of('log_shares') }} / cast(nullif(first_close, 0) as double) as held
  from growth
),

windows as (
  select
    security_id, date, symbol, open, high, low, close, volume, log_split, return_1d, log_shares, first_close,
    count({{ if_held('held') }}) {{ sessions(20) }} as sessions_20,
    count({{ if_held('held') }}) {{ sessions(50) }} as sessions_50,
    sum({{ if_held('held') }}) {{ sessions(20) }} as held_20,
    sum({{ if_held('held') }}) {{ sessions(50) }} as held_50,
    count(return_1d) {{ sessions(20) }} as returns_20,
    cast(sum(return_1d) {{ sessions(20) }} as decimal(18, 12)) as sum_20,
    sum(return_1d * return_1d) {{ sessions(20) }} as squares_20,
    coalesce(sum(log_return) {{ so_far() }}, 0) as log_total,
    sum(is_later) {{ so_far() }} - count(return_1d) {{ so_far() }} as undefined
  from returns
),

peaks as (
  select
    security_id, date, symbol, open, high, low, close, volume, log_split, return_1d, log_shares, first_close,
    sessions_20, sessions_50, held_20, held_50, returns_20, sum_20, squares_20, undefined, log_total,
    max(log_total) {{ so_far() }} as log_peak,
    {{ ratio_of('log_total') }} as total
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
  {{ if_told(ratio_of('log_split'), 'cast(' ~ ratio_of('log_split') ~ ' as decimal(20, 12))') }} as split_factor,
  return_1d,
  case when sessions_20 = 20 then {{ mean_in_shares('held_20', 20) }} end as sma_20,
  case when sessions_50 = 50 then {{ mean_in_shares('held_50', 50) }} end as sma_50,
  case
    when returns_20 = 20
      then cast(sqrt(cast(20 * squares_20 - sum_20 * sum_20 as double) / (20 * 19) * 252) as decimal(18, 12))
  end as volatility_20,
  case
    when undefined = 0 and total >= 0.00000001 and total < 1000000000000000 then cast(total as decimal(28, 12))
  end as total_return_index,
  case when undefined = 0 then cast({{ ratio_of('log_total - log_peak') }} - 1 as decimal(18, 12)) end as drawdown
from peaks
