"""A run for experiment trackers: TensorBoard, MLflow, tables as CSV or Parquet."""
