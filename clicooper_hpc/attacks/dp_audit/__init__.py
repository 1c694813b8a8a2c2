"""A test of the release mechanism against its own claim of differential privacy."""
