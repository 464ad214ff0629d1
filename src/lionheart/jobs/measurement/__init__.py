"""Measurements of a job: accuracy on chips, sensitivities and Hessian traces of projections."""
