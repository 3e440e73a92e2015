{{ with_security(source('silver', 'price_eod_versions'), ['symbol', 'date', 'close', 'known_from', 'known_to', 'backfilled']) }}
