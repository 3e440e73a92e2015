{{ with_security(source('silver', 'price_eod'), ['symbol', 'date', 'open', 'high', 'low', 'close', 'volume']) }}
