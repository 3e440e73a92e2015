{{ with_security(source('silver', 'dividends_versions'), ['symbol', 'date', 'dividend', 'known_from', 'known_to', 'backfilled']) }}
