"""Django's PostgreSQL backend, which hands out pooled connections for less."""
