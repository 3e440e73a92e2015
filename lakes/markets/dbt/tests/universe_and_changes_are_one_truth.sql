-- A row of the universe that reaches over a change of its symbol without saying whose it is, and two rows that claim the same
-- days of one security, or of one symbol for two. Cut the one at the change; of the others, end one where the next begins.
select
  symbol, valid_from, held_from as changed_on, cast(null as varchar) as other_symbol,
  'reaches over a change of its symbol: cut it there' as wrong
from {{ ref('universe_holder') }}
where reaches and filed_since is null
union all
select
  a.symbol, a.valid_from, b.valid_from as changed_on, b.symbol as other_symbol,
  case when b.symbol = a.symbol then 'claims days that another universe gives to another security'
    else 'claims days of a security that the other symbol claims too' end as wrong
from {{ ref('universe_holder') }} as a
inner join {{ ref('universe_holder') }} as b
  on (
    (b.security_id = a.security_id and b.symbol > a.symbol)
    or (b.symbol = a.symbol and b.valid_from > a.valid_from and b.security_id <> a.security_id)
    or (b.symbol = a.symbol and b.valid_from = a.valid_from and b.security_id > a.security_id)
  )
  and (a.valid_to is null or b.valid_from < a.valid_to) and (b.valid_to is null or a.valid_from < b.valid_to)
