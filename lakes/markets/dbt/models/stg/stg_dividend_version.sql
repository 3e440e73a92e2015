{{ with_security(source('silver', 'dividends_versions'), ['symbol', 'date', 'dividend', '_op', 'known_from', 'known_to']) }}
