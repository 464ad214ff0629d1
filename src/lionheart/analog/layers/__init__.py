"""Layers that compute on tiles: linear layers, convolutions, and wrappers of modules that contain projections.

Takes digital modules. Returns modules with the same parameters under the same names. Must not know: training, accuracy.
"""
