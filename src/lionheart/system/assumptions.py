"""Texts that every cost estimate contains: descriptions of the included costs, of the omitted costs, and of the assumptions."""

from __future__ import annotations

from lionheart.system.platform import PlatformSpec

COUNTED = (
    "digital projections: gathering of patches (im2col), products, bias, requantisation, weight and activation traffic",
    "analog projections: gathering of patches, conversion of inputs and outputs, CM_QUEUE, CM_PROCESS, CM_DEQUEUE, "
    "digital partial sums over tiles, bias, activation traffic",
    "all other operations of the network, and reading its input and writing its result, alike in every mapping",
    "energy of the core, of accesses to and leakage of the last-level cache, of DRAM accesses, and of the tiles",
)
NOT_COUNTED = (
    "programming of the tiles, which stands apart from the inference",
    "the first inference after start, when no weight is in any cache",
    "pipelining over several cores, and batches larger than 1",
    "the wires that reach the tiles; tiles that the platform does not have are counted, not refused",
    "simulation of the caches: what stays is decided by size alone",
    "drift compensation, calibration and their reference reads",
)
CONTROLLER_COUNTED = "energy of memory controller and IO: their power over the whole time"
CONTROLLER_LEFT_OUT = (
    "power of memory controller and IO: ALPINE prints it, but its energy axis is too low to contain it in full"
)
ASSUMPTIONS = (
    "One in-order core runs the whole network, one inference at a time, int8 throughout; it reaches as many tiles as needed.",
    "Weights on tiles stay there: programming is excluded, as in ALPINE.",
    "A digital layer reads all its weights again for each product, as far as they do not fit in the core's own cache.",
    "Of digital weights that do not fit in the last-level cache, the part that does stays there; the rest is read from DRAM.",
    "Activations go to DRAM only when the inputs and outputs of one projection exceed the last-level cache.",
    "Loads from the last-level cache and DRAM do not overlap with computation; stores do.",
    "The core queues the tiles of a projection one after another and waits for each MVM; nothing overlaps.",
    "An MVM takes the whole tile's energy, however many of its devices hold a weight; idle tiles take none.",
    "Tile energy: where size and resolution of the tile are given, a share scales with the converters by ZigZag's closed form, "
    "the rest with the devices; else an operation takes the same at any size. A product always takes the same time.",
    "Programming: each device takes one reset and the same number of verified pulses; a row of devices is written at a time.",
    "A core that waits for memory or for a tile takes the wait-for-memory energy; other cores are off.",
    "A batch norm is folded into the projection before it and costs nothing.",
    "Grouped products run at the rate of dense ones, depthwise ones at a rate of their own.",
    "The network's input is that of the first projection to run, its result the output of the last to start.",
    "Six coefficients of the software are fitted to the published gains of ALPINE and LionHeart; element-wise prices are "
    "estimates.",
)
_POLICIES = (
    "Read policies: each read of a tile takes the time and energy of a product; component tile_repeated_reads is the share of "
    "all reads after the first.",
    "Row copies are driven by the same inputs, which are packed once; column copies are dequeued and added. A device pair "
    "takes the energy of a pair. Largest inputs, scaling and digital weights are work of the core on data in its own cache.",
)
_ACCUMULATES = {
    True: "The tile adds the outputs of repeated reads and gives their mean with the resolution of one output.",
    False: "The core takes the outputs of each repeated read and adds them; inputs stay in the tile meanwhile.",
}
_BROADCASTS = {
    True: "One queue instruction reaches all row copies.",
    False: "Inputs are queued again for each row copy.",
}


def list_policy_assumptions(platform: PlatformSpec, are_there: bool) -> tuple[str, ...]:
    """Return the assumptions about read policies on a platform; none if `are_there` is False, i.e. all policies are default."""
    if not are_there:
        return ()
    return (*_POLICIES, _ACCUMULATES[platform.tile_accumulates_reads], _BROADCASTS[platform.tile_broadcasts_inputs])
