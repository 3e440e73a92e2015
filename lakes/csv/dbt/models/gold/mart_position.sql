select
  symbol,
  cast(sum(quantity) as decimal(18, 6)) as quantity,
  cast(sum(quantity * price) as decimal(18, 6)) as cost,
  count(*) as trades,
  max(date) as last_traded_on
from {{ source('silver', 'trades') }}
group by symbol
