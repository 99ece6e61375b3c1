"""What the kinds of label noise share."""
