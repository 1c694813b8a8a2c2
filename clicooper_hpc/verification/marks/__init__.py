"""Reading the marks of a run with keys that trainers opened."""
