"""Kinds of label noise, one file each."""
