"""Alembic's environment: runs the missing migrations in the transaction that the store opened."""

from alembic import context

from iam.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
