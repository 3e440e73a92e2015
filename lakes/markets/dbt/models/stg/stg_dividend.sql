{{ with_security(source('silver', 'dividends'), ['symbol', 'date', 'dividend']) }}
