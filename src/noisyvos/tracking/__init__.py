"""MLflow as a view of the results. Stages write JSON and CSV first; MLflow only shows them."""
