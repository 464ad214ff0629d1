"""Ranking ``neuron-norm``: projections whose largest neuron has the smallest norm are tried first.

A neuron is an output of a projection, and its norm is that of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.analog import analog_layers, convert_to_analog_
from lionheart.candidates import Candidate
from lionheart.copies import copy_model
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking
from lionheart.mapping import LayerMapping, Placement
from lionheart.search import Problem


@register_ranking("neuron-norm")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """For each candidate, return the negated largest Euclidean norm of the weights of one of its outputs.

    Candidates are projections (weight matrices) that may become analog. The candidate with the smallest largest norm is tried
    first. No data are needed. The publication ranks the experts of a mixture-of-experts model, and keeps the attention digital.

    Source:
        Chowdhury et al., arXiv:2603.02633, 2026: experts with the largest maximum neuron norm are the most sensitive to noise.
    """
    mapping = LayerMapping({each.node.fqn: Placement.ANALOG for each in candidates})
    twin = convert_to_analog_(copy_model(context.task.model), mapping, context.settings.tile)
    layers = analog_layers(twin)
    return {
        each.node.fqn: -float(layers[each.node.fqn].matrix().detach().float().norm(dim=1).max()) for each in candidates
    }
