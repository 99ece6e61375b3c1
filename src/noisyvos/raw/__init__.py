"""Raw material: sources that are generated, fetched from archives, or put in place by hand."""
