"""What a dock keeps: records, blobs, publications; in a folder, or in PostgreSQL and an object store."""
