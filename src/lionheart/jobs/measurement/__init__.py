"""Measurements that jobs make: the accuracy on simulated chips, and for each projection the sensitivity and Hessian trace.

The sensitivity of a projection (weight matrix) is the loss increase with only this projection analog.
"""
