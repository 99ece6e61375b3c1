"""Reading and writing of files: one module each for frames, masks, file search, text and atomic writes."""
