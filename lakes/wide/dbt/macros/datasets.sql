{# What this lake has prices of, and the symbols it asks for: raw prices of some securities, adjusted closes of more. #}

{# Each symbol and day of which some version of a price is kept. #}
{% macro priced() -%}
  select symbol, date from {{ source('silver', 'price_eod_versions') }}
  union all
  select symbol, date from {{ source('silver', 'adjusted_close_versions') }}
{%- endmacro %}

{# Each row of the universes whose symbols are securities. #}
{% macro universe() -%}
  select symbol, valid_from, valid_to from {{ ref('universe_us') }}
  union
  select symbol, valid_from, valid_to from {{ ref('universe_adjusted') }}
{%- endmacro %}
