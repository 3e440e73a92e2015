-- A security whose figures are undefined on some day: a price that is no price, or a move beyond 12 decimals. It stops no
-- other's, so this is a warning; the rows are such securities.
{{ config(severity='warn') }}
select security_id, min(date) as since, count(*) as sessions
from {{ ref('fct_daily_price') }}
where total_return_index is null or split_factor is null or drawdown is null
group by security_id
