{{ config(materialized='table') }}
-- Each symbol of the changes cut at each of them; ranges that a change links belong to one security.
with recursive

changes as (
  select changed_on, old_symbol, new_symbol from {{ ref('symbol_changes') }}
),

cuts (symbol, valid_from) as (
  select old_symbol, changed_on from changes
  union
  select new_symbol, changed_on from changes
  union
  select old_symbol, {{ always() }} from changes
  union
  select new_symbol, {{ always() }} from changes
),

ranges (symbol, valid_from, valid_to) as (
  select symbol, valid_from, lead(valid_from) over (partition by symbol order by valid_from)
  from cuts
),

chain (symbol, valid_from, valid_to, first_symbol, first_from, renamed) as (
  select r.symbol, r.valid_from, r.valid_to, r.symbol, r.valid_from, false
  from ranges as r
  left join changes as c on c.new_symbol = r.symbol and c.changed_on = r.valid_from
  where c.new_symbol is null
  union all
  select r.symbol, r.valid_from, r.valid_to, p.first_symbol, p.first_from, true
  from chain as p
  inner join changes as c on c.old_symbol = p.symbol and c.changed_on = p.valid_to
  inner join ranges as r on r.symbol = c.new_symbol and r.valid_from = c.changed_on
)

select
  {{ security_id('h.first_symbol', 'h.first_from') }} as security_id,
  h.symbol,
  h.valid_from,
  h.valid_to,
  max(case when h.valid_to is null then h.symbol end) over (partition by h.first_symbol, h.first_from) as current_symbol,
  h.renamed,
  h.renamed or c.old_symbol is not null as in_change
from chain as h
left join changes as c on c.old_symbol = h.symbol and c.changed_on = h.valid_to
