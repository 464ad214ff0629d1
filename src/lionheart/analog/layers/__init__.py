"""Layers that compute on tiles: linear layers and convolutions, and wrappers of modules whose projections are parts of them.

Takes digital modules; returns modules with the same parameters under the same names. Must not know: training, accuracy.
"""
