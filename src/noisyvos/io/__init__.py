"""Reading and writing of files: frames, masks, file search, text, atomic writes."""
