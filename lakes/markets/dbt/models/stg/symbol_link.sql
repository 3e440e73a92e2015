{{ config(materialized='table') }}
-- Each symbol of the changes cut at each of them; ranges that a change links belong to one security.
-- Written without recursion, which not every database has: each step goes one name back, and a test says if some were too few.
{% set steps = 12 %}
with

changes as (
  select changed_on, old_symbol, new_symbol from {{ ref('symbol_changes') }}
),

cuts as (
  select old_symbol as symbol, changed_on as valid_from from changes
  union
  select new_symbol as symbol, changed_on as valid_from from changes
  union
  select old_symbol as symbol, {{ always() }} as valid_from from changes
  union
  select new_symbol as symbol, {{ always() }} as valid_from from changes
),

ranges as (
  select symbol, valid_from, lead(valid_from) over (partition by symbol order by valid_from) as valid_to
  from cuts
),

-- The range of the former symbol, of each that a change began.
former as (
  select c.new_symbol as symbol, c.changed_on as valid_from, r.symbol as former_symbol, r.valid_from as former_from
  from changes as c
  inner join ranges as r on r.symbol = c.old_symbol and r.valid_to = c.changed_on
),

back_0 as (
  select symbol, valid_from, valid_to, symbol as first_symbol, valid_from as first_from from ranges
),

{% for step in range(1, steps + 1) -%}
back_{{ step }} as (
  select
    b.symbol, b.valid_from, b.valid_to,
    coalesce(f.former_symbol, b.first_symbol) as first_symbol, coalesce(f.former_from, b.first_from) as first_from
  from back_{{ step - 1 }} as b
  left join former as f on f.symbol = b.first_symbol and f.valid_from = b.first_from
),

{% endfor -%}
chain as (
  select
    b.symbol, b.valid_from, b.valid_to, b.first_symbol, b.first_from,
    b.first_symbol <> b.symbol or b.first_from <> b.valid_from as renamed,
    f.symbol is not null as is_cut_off
  from back_{{ steps }} as b
  left join former as f on f.symbol = b.first_symbol and f.valid_from = b.first_from
)

select
  {{ security_id('h.first_symbol', 'h.first_from') }} as security_id,
  h.symbol,
  h.valid_from,
  h.valid_to,
  max(case when h.valid_to is null then h.symbol end) over (partition by h.first_symbol, h.first_from) as current_symbol,
  h.renamed,
  h.renamed or c.old_symbol is not null as in_change,
  h.is_cut_off
from chain as h
left join changes as c on c.old_symbol = h.symbol and c.changed_on = h.valid_to
