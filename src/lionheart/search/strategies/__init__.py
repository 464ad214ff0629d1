"""Search strategies, one module for each strategy."""
