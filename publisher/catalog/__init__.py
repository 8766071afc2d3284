"""The database: what came in, what became of it, what is expected and missing."""
