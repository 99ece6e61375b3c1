"""Questions asked of a grid's scores, one module each; a new question is one new file here."""
