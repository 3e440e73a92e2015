{# What this lake has prices of, and the symbols it asks for; a lake with more datasets has a file of its own here. #}

{# Each symbol and day of which some version of a price is kept. #}
{% macro priced() -%}
  select symbol, date from {{ source('silver', 'price_eod_versions') }}
{%- endmacro %}

{# Each row of the universes whose symbols are securities. #}
{% macro universe() -%}
  select symbol, valid_from, valid_to from {{ ref('universe_us') }}
{%- endmacro %}
