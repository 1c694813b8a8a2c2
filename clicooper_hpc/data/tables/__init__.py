"""Tables (CSV, Parquet, Arrow, data frames) as vectors of numbers, by a stored mapping."""
