"""Texts that every cost estimate contains: descriptions of the included costs, of the omitted costs, and of the assumptions."""

from __future__ import annotations

COUNTED = (
    "digital projections: gathering of patches (im2col), products, bias, requantisation, weight and activation traffic",
    "analog projections: gathering of patches, conversion of inputs and outputs, CM_QUEUE, CM_PROCESS, CM_DEQUEUE, "
    "digital partial sums over tiles, bias, activation traffic",
    "all other operations of the network, and reading its input and writing its result, the same in every mapping",
    "energy of the core, of accesses to and leakage of the last-level cache, of DRAM accesses, and of the tiles",
)
NOT_COUNTED = (
    "programming of the tiles, which is reported separately from the inference",
    "the first inference after the start, when no weight is in any cache",
    "pipelining over several cores, and batches larger than 1",
    "the wires to the tiles; tiles beyond those of the platform are counted and reported, not rejected",
    "simulation of the caches: sizes alone decide which data stay in a cache",
    "drift compensation, calibration and their reference reads",
)
CONTROLLER_COUNTED = "energy of memory controller and IO: their power times the whole time"
CONTROLLER_LEFT_OUT = (
    "power of memory controller and IO: ALPINE prints it, but its energy axis is too low to include all of it"
)
ASSUMPTIONS = (
    "One in-order core runs the whole network, one inference at a time, in int8; it is connected to as many tiles as needed.",
    "Weights on tiles stay there: programming is excluded, as in ALPINE.",
    "A digital layer reads again, for each product, the part of its weights that does not fit in the core's own cache.",
    "The last-level cache holds as many digital weights as fit; the others are read from DRAM.",
    "Activations go to DRAM only if the inputs and outputs of one projection exceed the last-level cache.",
    "Loads from the last-level cache and DRAM do not overlap with computation; stores do.",
    "The core queues the tiles of a projection one after another and waits for each MVM; nothing overlaps.",
    "An MVM takes the energy of the whole tile, however many of its devices hold a weight; unused tiles take none.",
    "Tile energy: if size and resolution of the tile are given, a share scales with the converters by ZigZag's closed form and "
    "the rest with the devices; otherwise the energy per operation is the same at any size. The time of an MVM is constant.",
    "Programming: each device takes one reset and the same number of verified pulses; one row of devices is written at a time.",
    "A core that waits for memory or for a tile takes the wait-for-memory energy; other cores are off.",
    "A batch norm is folded into the preceding projection and costs nothing.",
    "Grouped products run at the rate of dense ones; depthwise products have their own rate.",
    "The network's input is that of the first projection to run, and its result is the output of the last to start.",
    "Six coefficients of the software are fitted to the published gains of ALPINE and LionHeart; the costs of element-wise "
    "operations are estimates.",
)
