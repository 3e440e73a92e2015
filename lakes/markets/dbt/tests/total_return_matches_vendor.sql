-- Our total return, from raw prices, splits and dividends, against the vendor's adjusted closes, which are no input to it.
-- Both are rebased at the last day they share. Allowed: half a cent, which is how the vendor may round, plus 0.1 percent.
with

both_series as (
  select f.security_id, f.date, f.total_return_index, a.adj_close
  from {{ ref('fct_daily_price') }} as f
  inner join {{ source('silver', 'price_eod_adjusted') }} as a on a.symbol = f.symbol and a.date = f.date
  where f.total_return_index is not null
),

rebased as (
  select
    b.security_id, b.date, cast(b.adj_close as double) as adj_close,
    cast(b.total_return_index as double) * cast(l.adj_close as double) / cast(l.total_return_index as double) as ours
  from both_series as b
  inner join (select security_id, max(date) as date from both_series group by security_id) as m
    on m.security_id = b.security_id
  inner join both_series as l on l.security_id = m.security_id and l.date = m.date
)

select security_id, date, adj_close, ours
from rebased
where abs(ours - adj_close) > 0.005 + 0.001 * adj_close
