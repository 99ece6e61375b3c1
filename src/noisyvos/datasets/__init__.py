"""Datasets: conversion of raw files to the layout of `layout.py`, and sampling from it."""
