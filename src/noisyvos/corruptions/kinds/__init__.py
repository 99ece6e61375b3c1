"""Kinds of image corruption, one file each."""
