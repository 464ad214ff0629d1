"""Analog layers: linear layers, convolutions, and wrappers of modules that contain several projections (weight matrices).

Each class replaces a digital module and has the same parameters under the same names. This package imports no code for
training or for accuracy measurements.
"""
