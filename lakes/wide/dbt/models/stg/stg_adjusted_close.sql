{{ with_security(source('silver', 'adjusted_close'), ['symbol', 'date', 'adj_close']) }}
