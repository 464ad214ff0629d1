"""CPU laboratory: the time of kernels and networks on ARM cores, from instructions and cache misses.

Takes: the shape of a layer, and a core and a kernel library by name. Returns: an `InstructionMix`, `CacheMisses` and a
`CoreTime`. The benchmarks of this folder use it; LionHeart has the numbers that they derive in its platform files.
"""
