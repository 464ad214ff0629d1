"""Pareto front of accuracy against analog MACs, time or energy: search through Optuna, the job, the command and the page.

Input: a task and settings. Output: a `ParetoResult` and a run directory. The module `search` needs Optuna and is
imported on use.
"""
