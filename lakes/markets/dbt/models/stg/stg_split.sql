{{ with_security(source('silver', 'splits'), ['symbol', 'date', 'numerator', 'denominator']) }}
