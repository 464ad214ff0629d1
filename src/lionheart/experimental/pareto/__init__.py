"""The front of accuracy against analog MACs, time or energy: search through Optuna, the job, its command and its page.

Takes a task and settings; returns a `ParetoResult` and a run directory. `search` needs Optuna and is imported where it is used.
"""
