"""Measurements that jobs make: accuracy on simulated chips, and sensitivity and Hessian trace of each projection."""
