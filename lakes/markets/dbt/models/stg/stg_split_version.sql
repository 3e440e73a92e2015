{{ with_security(source('silver', 'splits_versions'), ['symbol', 'date', 'numerator', 'denominator', 'known_from', 'known_to', 'backfilled']) }}
