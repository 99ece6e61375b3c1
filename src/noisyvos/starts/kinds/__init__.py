"""Kinds of starts, one file each."""
