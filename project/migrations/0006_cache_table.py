"""Django's cache as a table, for installations without Redis. Unlogged: a crash of PostgreSQL may empty it."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("project", "0005_audit_entry")]

    operations = [
        migrations.RunSQL(
            """
            CREATE UNLOGGED TABLE carillon_cache (
                cache_key varchar(255) PRIMARY KEY, value text NOT NULL, expires timestamptz NOT NULL);
            CREATE INDEX carillon_cache_expires ON carillon_cache (expires);
            """,
            "DROP TABLE carillon_cache",
        )
    ]
