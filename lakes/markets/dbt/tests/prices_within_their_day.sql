-- The day's high and low bound its open and close.
select security_id, date
from {{ ref('fct_daily_price') }}
where low > least(open, close) or high < greatest(open, close)
