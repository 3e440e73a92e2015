{{ with_security(source('silver', 'splits_versions'), ['symbol', 'date', 'numerator', 'denominator', '_op', 'known_from', 'known_to']) }}
