"""Search for the Pareto front of accuracy against a cost: digital MACs, digital weights, time or energy.

The package takes a task and settings. It returns a `ParetoResult` and writes a run directory. The search uses Optuna, which is
imported only when a search starts.
"""
