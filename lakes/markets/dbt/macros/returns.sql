{#
  Sums over floats depend on their order, so none are summed here: a logarithm is rounded to a decimal first, decimals
  are summed exactly, and one floating expression over the sum is rounded again.
#}
{% macro log_decimal(ratio) -%}
  cast(ln({{ ratio }}) as decimal(38, 18))
{%- endmacro %}

{# The product whose logarithms sum to `sum`, as a ratio of 12 decimals. #}
{% macro ratio_of(sum) -%}
  cast(exp(cast({{ sum }} as double)) as decimal(20, 12))
{%- endmacro %}

{# What one unit held at the previous close is worth at this close, in today's shares and with today's dividend. #}
{% macro gross_return(close, dividend, split_factor, previous_close) -%}
  cast(cast({{ close }} + {{ dividend }} as decimal(18, 6)) * {{ split_factor }} as double)
    / cast(nullif({{ previous_close }}, 0) as double)
{%- endmacro %}

{# The last `sessions` sessions of a security, this one included. #}
{% macro sessions(sessions) -%}
  over (partition by security_id order by date rows between {{ sessions - 1 }} preceding and current row)
{%- endmacro %}
