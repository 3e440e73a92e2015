-- Whose the days of a row of the universe are: who holds its symbol on its last day. Where it reaches over a change into the
-- range of who came by the symbol, all of it is theirs, and so is what is older: the vendor files under today's symbol. But what
-- an earlier row says of the symbol, or of them under another one, stays as it says.
with

listed as (
  select
    symbol, valid_from, valid_to,
    max(valid_to) over (partition by symbol order by valid_from, valid_to rows between unbounded preceding and 1 preceding) as before
  from ({{ universe() }}) as u
),

held as (
  select
    u.symbol, u.valid_from, u.valid_to, u.before,
    max(u.valid_to) over (
      partition by l.security_id order by u.valid_from, u.valid_to rows between unbounded preceding and 1 preceding
    ) as held_before,
    l.security_id, l.valid_from as held_from, l.renamed, l.valid_from > u.valid_from as reaches
  from listed as u
  inner join {{ ref('symbol_link') }} as l
    on l.symbol = u.symbol
    and (u.valid_to is null or l.valid_from < u.valid_to)
    and (l.valid_to is null or l.valid_to >= u.valid_to)
)

select
  symbol,
  valid_from,
  valid_to,
  security_id,
  held_from,
  case
    when reaches and renamed and {{ filed_under_today() }}
      then coalesce(case when held_before > before then held_before else before end, held_before, {{ always() }})
  end as filed_since,
  reaches
from held
