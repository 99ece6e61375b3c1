"""Tables, figures, and the report page made of them."""

MOST_LINES = 8  # methods that a reader can tell apart by colour; more are shown as a matrix
