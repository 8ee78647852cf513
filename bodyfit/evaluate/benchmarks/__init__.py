"""Benchmarks of whole data sets: from the folder that a user has to a table with its protocol."""
