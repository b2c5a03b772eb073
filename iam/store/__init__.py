"""The durable store: schema, transactions, cached records."""
