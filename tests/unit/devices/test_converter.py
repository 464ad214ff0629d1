"""How devices hold a weight."""

import pytest
import torch

from lionheart.devices import CustomPairConverter, DeviceSpec, PairConverter, SingleConverter
from lionheart.devices.converter import convert_to_conductances, convert_to_weights


@pytest.mark.parametrize(
    ("converter", "g_min", "expected"),
    [  # of the weights 1, 0.5, -0.1 at g_max = 10
        (PairConverter(), 0.0, [[10, 5, 0], [0, 0, 1]]),
        (PairConverter(), 2.0, [[10, 6, 2], [2, 2, 2.8]]),
        # range 10 + 30: 0.5 is 20, of which the first pair takes 10 and the second 10 / 3
        (PairConverter(significance=(1, 3)), 0.0, [[10, 10, 0], [0, 0, 4], [10, 10 / 3, 0], [0, 0, 0]]),
        (SingleConverter(), 0.0, [[10, 6 / 1.1, 0]]),
        (CustomPairConverter(g_plus=((0, 5, 10),), g_minus=((10, 5, 0),)), 0.0, [[10, 7.5, 4.5], [0, 2.5, 5.5]]),
    ],
)
def test_conductances_by_hand(converter: object, g_min: float, expected: list):
    device = DeviceSpec(g_max=10.0, g_min=g_min, converter=converter)
    weights = torch.tensor([[1.0, 0.5, -0.1]], dtype=torch.float64)
    found, scale = convert_to_conductances(weights, device)
    torch.testing.assert_close(torch.cat(found), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(convert_to_weights(found, scale, device), weights)
