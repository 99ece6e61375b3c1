"""MLflow as a view of what the stages write."""
