with

sessions as (
  select
    security_id, date, symbol, adj_close,
    lag(date) over (partition by security_id order by date) as previous_date,
    lag(adj_close) over (partition by security_id order by date) as previous_close
  from {{ ref('stg_adjusted_close') }}
),

market as (
  select date, close
  from {{ source('silver', 'index_close') }}
  where symbol = '^GSPC' and close > 0
),

-- The newest rate on a day: of the last ten, since a week with holidays has fewer.
rate_days as (
  select d.previous_date, max(r.date) as rate_date
  from (select distinct previous_date from sessions) as d
  inner join {{ source('silver', 'treasury_rates') }} as r
    on r.date <= d.previous_date and r.date > d.previous_date - interval '10' day
  where r.month_3 is not null
  group by d.previous_date
),

growth as (
  select
    s.security_id, s.date, s.symbol, s.adj_close, s.previous_date,
    case
      when s.adj_close > 0 and s.previous_close > 0 then cast(s.adj_close as double) / cast(s.previous_close as double)
    end as gross,
    cast(m.close as double) / cast(b.close as double) as index_gross,
    case
      when r.month_3 between -100 and 100
        then cast(cast(r.month_3 as double) * date_diff('day', s.previous_date, s.date) / 36500 as decimal(18, 12))
    end as risk_free_1d
  from sessions as s
  left join market as m on m.date = s.date
  left join market as b on b.date = s.previous_date
  left join rate_days as d on d.previous_date = s.previous_date
  left join {{ source('silver', 'treasury_rates') }} as r on r.date = d.rate_date
),

returns as (
  select
    security_id, date, symbol, adj_close, previous_date, risk_free_1d,
    {{ if_told('gross', 'cast(gross - 1 as decimal(18, 12))') }} as return_1d,
    {{ if_told('index_gross', 'cast(index_gross - 1 as decimal(18, 12))') }} as index_return_1d
  from growth
),

-- A day counts for the slope if both have a return.
pairs as (
  select
    security_id, date, symbol, adj_close, previous_date, risk_free_1d, return_1d, index_return_1d,
    case when index_return_1d is not null then return_1d end as paired,
    case when return_1d is not null then index_return_1d end as index_paired
  from returns
),

windows as (
  select
    security_id, date, symbol, adj_close, previous_date, risk_free_1d, return_1d, index_return_1d,
    count(return_1d) {{ sessions(20) }} as returns_20,
    cast(sum(return_1d) {{ sessions(20) }} as decimal(18, 12)) as sum_20,
    sum(return_1d * return_1d) {{ sessions(20) }} as squares_20,
    count(paired) {{ sessions(252) }} as pairs_252,
    cast(sum(paired) {{ sessions(252) }} as decimal(19, 12)) as sum_252,
    cast(sum(index_paired) {{ sessions(252) }} as decimal(19, 12)) as index_sum_252,
    sum(paired * index_paired) {{ sessions(252) }} as products_252,
    sum(index_paired * index_paired) {{ sessions(252) }} as index_squares_252
  from pairs
),

slopes as (
  select
    security_id, date, symbol, adj_close, previous_date, risk_free_1d, return_1d, index_return_1d,
    returns_20, sum_20, squares_20,
    case
      when pairs_252 = 252
        then cast(252 * products_252 - sum_252 * index_sum_252 as double)
          / nullif(cast(252 * index_squares_252 - index_sum_252 * index_sum_252 as double), 0)
    end as slope
  from windows
)

select
  security_id,
  date,
  symbol,
  previous_date,
  adj_close,
  return_1d,
  case
    when returns_20 = 20
      then cast(sqrt(cast(20 * squares_20 - sum_20 * sum_20 as double) / (20 * 19) * 252) as decimal(18, 12))
  end as volatility_20,
  index_return_1d,
  case when abs(slope) < 999999 then cast(slope as decimal(18, 12)) end as beta_252,
  risk_free_1d,
  cast(return_1d - risk_free_1d as decimal(18, 12)) as excess_return_1d
from slopes
