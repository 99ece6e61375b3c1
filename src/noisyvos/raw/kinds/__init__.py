"""Kinds of sources of raw data."""
