"""What the scores of a grid say: reading them (results, families), statistics, and questions."""
