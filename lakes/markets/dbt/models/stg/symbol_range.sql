{{ config(materialized='table') }}
-- Which security the records of a symbol are about, and when. What the universe says is filed under a symbol from before
-- it was theirs is taken from whom else had the symbol, and from their own former symbols.
with

filed as (
  select symbol, security_id, held_from, filed_since
  from {{ ref('universe_holder') }}
  where filed_since is not null
),

cut as (
  select
    l.security_id, l.symbol, l.valid_from as linked_from, l.valid_to, l.current_symbol, l.in_change,
    coalesce(min(case when f.symbol = l.symbol and f.held_from = l.valid_from then f.filed_since end), l.valid_from) as valid_from,
    min(case when f.held_from > l.valid_from and (f.symbol = l.symbol or f.security_id = l.security_id) then f.filed_since end)
      as taken_from
  from {{ ref('symbol_link') }} as l
  left join filed as f on f.symbol = l.symbol or f.security_id = l.security_id
  group by l.security_id, l.symbol, l.valid_from, l.valid_to, l.current_symbol, l.in_change
),

moved as (
  select
    security_id, symbol, valid_from,
    case when valid_to is null or taken_from < valid_to then coalesce(taken_from, valid_to) else valid_to end as valid_to,
    current_symbol, in_change
  from cut
)

select security_id, symbol, valid_from, valid_to, current_symbol, in_change
from moved
where valid_to is null or valid_from < valid_to
