-- A security that was renamed more often than `symbol_link` goes back: its `steps` want to be more.
select symbol, valid_from
from {{ ref('symbol_link') }}
where is_cut_off
