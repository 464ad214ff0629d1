"""Rankings of candidates, one module for each ranking."""
