"""Run by Alembic for every migration, on the connection of `schema.upgrade`.

It cannot be imported by itself, so this folder is no package. It does not configure logging.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
