"""Dataset kinds, one module each; a module that registers a kind here is all that a new one needs."""
