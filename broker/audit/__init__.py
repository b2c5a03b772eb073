"""The audit log: what is recorded, how it is kept, searched and exported."""
