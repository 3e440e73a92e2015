{# The id of the security that first appeared as `symbol` on `valid_from`. #}
{% macro security_id(symbol, valid_from) -%}
  {{ dbt.hash(symbol ~ " || '|' || cast(" ~ valid_from ~ ' as varchar)') }}
{%- endmacro %}

{# Before any record: a symbol that no change mentions has always been its security's. #}
{% macro always() -%}
  date '1900-01-01'
{%- endmacro %}

{# Whether older records of a renamed company may be filed under its symbol of today. #}
{% macro filed_under_today() -%}
  {% if var('filed_under') not in ('today', 'as_traded') -%}
    {{ exceptions.raise_compiler_error("vars.filed_under is `today` or `as_traded`, not " ~ var('filed_under')) }}
  {%- endif -%}
  {{ 'true' if var('filed_under') == 'today' else 'false' }}
{%- endmacro %}

{# Rows of a silver relation with the security that records of their symbol and date are about. #}
{% macro with_security(relation, columns) -%}
select
  coalesce(r.security_id, {{ security_id('s.symbol', always()) }}) as security_id,
  {%- for column in columns %}
  s.{{ column }}{{ ',' if not loop.last }}
  {%- endfor %}
from {{ relation }} as s
left join {{ ref('symbol_range') }} as r
  on r.symbol = s.symbol and s.date >= r.valid_from and (r.valid_to is null or s.date < r.valid_to)
{%- endmacro %}
