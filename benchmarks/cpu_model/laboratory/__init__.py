"""CPU laboratory: the time of kernels and networks on ARM cores, from instructions and cache misses.

Input: the shape of a layer, and a core and a kernel library by name. Output: an `InstructionMix`, `CacheMisses` and a
`CoreTime`. Only the benchmarks of this folder use it; LionHeart's platform files contain the derived numbers.
"""
