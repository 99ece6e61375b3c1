"""Tables, figures, and the report page made of them."""

MOST_LINES = 8  # methods that colours tell apart; more get a matrix or rows of panels
