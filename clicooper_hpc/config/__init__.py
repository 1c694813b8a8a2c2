"""The job file: schema, loading, and its generated reference."""
