"""Where a dock keeps its records and files: in a folder, or in PostgreSQL and an object store."""
