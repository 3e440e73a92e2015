{#
  Sums over floats depend on their order, so none are summed here: what is summed is rounded to a decimal first, decimals
  are summed exactly, and one floating expression over the sum is rounded again.
#}
{% macro log_decimal(ratio) -%}
  cast(ln({{ ratio }}) as decimal(38, 18))
{%- endmacro %}

{# The logarithm of what splits made of one share; null where one of them says no number of shares. #}
{% macro log_of_splits(numerator, denominator) -%}
  {% set ratio = 'cast(' ~ numerator ~ ' as double) / cast(' ~ denominator ~ ' as double)' -%}
  {% set log = 'case when ' ~ numerator ~ ' > 0 and ' ~ denominator ~ ' > 0 then ' ~ log_decimal(ratio) ~ ' end' -%}
  case when count({{ log }}) = count(*) then sum({{ log }}) end
{%- endmacro %}

{# The ratio whose logarithm is `log`, as a float: however small it is, it keeps its digits. #}
{% macro ratio_of(log) -%}
  exp(cast({{ log }} as double))
{%- endmacro %}

{#
  What one unit held at the previous close is worth at this close, in today's shares and with today's dividend; null where
  that close was no price.
#}
{% macro gross_return(close, dividend, log_split, previous_close) -%}
  (cast({{ close }} as double) + cast({{ dividend }} as double)) * {{ ratio_of(log_split) }}
    / case when {{ previous_close }} > 0 then cast({{ previous_close }} as double) end
{%- endmacro %}

{# A figure of a ratio from a million millionth to ten thousand; null elsewhere, so that it stops no other's. #}
{% macro if_told(ratio, figure) -%}
  case when {{ ratio }} >= 0.000000000001 and {{ ratio }} < 10000 then {{ figure }} end
{%- endmacro %}

{# The last `sessions` sessions of a security, this one included. #}
{% macro sessions(sessions) -%}
  over (partition by security_id order by date rows between {{ sessions - 1 }} preceding and current row)
{%- endmacro %}

{# All sessions of a security up to this one. #}
{% macro so_far() -%}
  over (partition by security_id order by date rows unbounded preceding)
{%- endmacro %}

{# What is summed to a mean, of ten digits at least; null where it is out of all proportion to the first session's. #}
{% macro if_held(held) -%}
  case when {{ held }} >= 1e-16 and {{ held }} < 1e10 then cast({{ held }} as decimal(38, 26)) end
{%- endmacro %}

{# The mean of sums of `if_held`, as a price in the shares of this day; null where 9 decimals do not tell it from nothing. #}
{% macro mean_in_shares(sum, sessions) -%}
  {% set mean = 'cast(' ~ sum ~ ' as double) / ' ~ sessions ~ ' / ' ~ ratio_of('log_shares') ~ ' * cast(first_close as double)' -%}
  case when {{ mean }} >= 0.000000001 and {{ mean }} < 1000000000000000 then cast({{ mean }} as decimal(28, 9)) end
{%- endmacro %}

{# The sum from one session ago to another, where each of them has a value. #}
{% macro total_if_all(value, first, last) -%}
  case
    when count(case when sessions_ago between {{ first }} and {{ last }} then {{ value }} end) = {{ last - first + 1 }}
      then sum(case when sessions_ago between {{ first }} and {{ last }} then {{ value }} end)
  end
{%- endmacro %}
