"""What the scores of a grid say."""
