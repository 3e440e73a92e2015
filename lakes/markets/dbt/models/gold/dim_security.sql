with

priced as (
  {{ priced() }}
),

symbols as (
  select symbol from {{ source('silver', 'symbol_list') }}
  union
  select symbol from priced
),

-- A range counts if a change says so, if its symbol is listed today, or if it has prices.
changed as (
  select r.security_id, r.symbol, r.valid_from, r.valid_to, r.current_symbol
  from {{ ref('symbol_range') }} as r
  where r.in_change
    or (r.valid_to is null and r.symbol in (select l.symbol from {{ source('silver', 'symbol_list') }} as l))
    or exists (
      select 1
      from priced as p
      where p.symbol = r.symbol and p.date >= r.valid_from and (r.valid_to is null or p.date < r.valid_to)
    )
),

unchanged as (
  select
    {{ security_id('s.symbol', always()) }} as security_id,
    s.symbol,
    {{ always() }} as valid_from,
    cast(null as date) as valid_to,
    s.symbol as current_symbol
  from symbols as s
  left join {{ ref('symbol_range') }} as r on r.symbol = s.symbol
  where r.symbol is null
),

ranges as (
  select security_id, symbol, valid_from, valid_to, current_symbol from changed
  union all
  select security_id, symbol, valid_from, valid_to, current_symbol from unchanged
)

select
  r.security_id,
  r.symbol,
  r.valid_from,
  r.valid_to,
  r.valid_to is null as is_current,
  r.current_symbol,
  l.company_name
from ranges as r
left join {{ source('silver', 'symbol_list') }} as l on l.symbol = r.current_symbol
