{# Values outside [low, high], or not above `above`; nulls pass. #}
{% test in_range(model, column_name, low=none, high=none, above=none) %}
select {{ column_name }}
from {{ model }}
where {{ column_name }} < {{ low if low is not none else column_name }}
  or {{ column_name }} > {{ high if high is not none else column_name }}
  {% if above is not none %}or {{ column_name }} <= {{ above }}{% endif %}
{% endtest %}
