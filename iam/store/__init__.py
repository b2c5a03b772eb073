"""The database: schema, migrations, transactions, cached records."""
