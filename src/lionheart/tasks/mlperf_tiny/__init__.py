"""Reference networks of the MLPerf Tiny benchmark with their published weights.

Input: the name of a task, through the registry of tasks. Output: a network and recipes. This package must not know mappings,
chips or search.
"""
