"""Tables, figures, and the report page made of them."""
