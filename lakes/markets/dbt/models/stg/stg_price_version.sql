{{ with_security(source('silver', 'price_eod_versions'), ['symbol', 'date', 'close', '_op', 'known_from', 'known_to']) }}
