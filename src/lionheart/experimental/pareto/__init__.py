"""Search for the mappings on the Pareto front of accuracy against cost.

The cost of a mapping is its number of digital MACs, its number of digital weights, or the time or energy of one inference. The
function `job.find_pareto_front` takes a task and settings, returns a `ParetoResult`, and writes a run directory. The search
uses Optuna, which is imported only when a search starts.
"""
