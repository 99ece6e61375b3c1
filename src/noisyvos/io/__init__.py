"""Reading and writing: atomic files, palette masks, frames, mask collections."""
