select
  date,
  currency,
  usd,
  cast(lag(usd) over (partition by currency order by date) as decimal(18, 8)) as previous_usd
from {{ source('silver', 'rates') }}
