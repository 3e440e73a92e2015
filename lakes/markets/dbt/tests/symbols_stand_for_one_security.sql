-- No symbol has two ranges that share a day.
select a.symbol, a.valid_from, b.valid_from as other_from
from {{ ref('dim_security') }} as a
inner join {{ ref('dim_security') }} as b
  on b.symbol = a.symbol and b.valid_from > a.valid_from and (a.valid_to is null or b.valid_from < a.valid_to)
