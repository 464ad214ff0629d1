"""Every device and converter against AIHWKIT: distributions of programmed, drifted and read weights.

`test_aihwkit_xref.py` does the default PCM on single pairs. Each comparison is shown to fail when our side is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from lionheart.analog.crossbar import ProgrammedCrossbar, program_crossbar, read_crossbar
from lionheart.devices import CustomPairConverter, DeviceSpec, PairConverter, SingleConverter
from lionheart.devices.converter import convert_to_conductances, convert_to_weights

pytestmark = [
    pytest.mark.xref,
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),  # AIHWKIT calls NumPy's log10 on tensors
]
aihwkit = pytest.importorskip("aihwkit", reason="compares with AIHWKIT, which is not installed")

from aihwkit.inference.converter import conductance as theirs  # noqa: E402
from aihwkit.inference.noise.pcm import CustomDriftPCMLikeNoiseModel, PCMLikeNoiseModel  # noqa: E402
from aihwkit.inference.noise.reram import ReRamCMONoiseModel, ReRamWan2022NoiseModel  # noqa: E402

TARGETS = (0.04, 0.2, 0.5, 0.8, 1.0)  # of the largest weight
N, N_CROSSBARS = 200_000, 40
SIGNS = torch.ones(N // N_CROSSBARS)
SIGNS[1::2] = -1
#: One crossbar: a row for each target, and one for zero. Ours are programmed all at once, along a leading axis.
WEIGHTS = torch.tensor([*TARGETS, 0.0]).unsqueeze(1) * SIGNS
HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
TIMES = (0.0, HOUR, DAY, YEAR)

#: Net conductance in a straight line, on curved tables: the positive device starts to rise before zero.
G_PLUS = ((0.0, 0.0, 3.0, 13.0, 25.0),)
G_MINUS = ((25.0, 12.5, 3.0, 0.5, 0.0),)
TABLE = {
    "g_lst": [0.0, 5.0, 12.0, 25.0],
    "nu_mean_lst": [0.09, 0.06, 0.05, 0.03],
    "nu_std_lst": [0.04, 0.02, 0.01, 0.006],
}
OUR_TABLE = tuple(zip(*TABLE.values(), strict=True))


@dataclass(frozen=True)
class Case:
    """Our device and AIHWKIT's model, and when they are read."""

    ours: DeviceSpec
    theirs: Any
    times: tuple[float, ...] = TIMES


def cmo(acceptance: float) -> ReRamCMONoiseModel:
    return ReRamCMONoiseModel(acceptance_range=acceptance)


def pcm(converter: Any, **settings: Any) -> PCMLikeNoiseModel:
    return PCMLikeNoiseModel(g_converter=converter, **settings)


CASES = {
    "g_min": Case(DeviceSpec.pcm(g_min=3.0), pcm(theirs.SinglePairConductanceConverter(g_max=25.0, g_min=3.0))),
    "dual pair": Case(
        DeviceSpec.pcm(converter=PairConverter(significance=(1.0, 4.0))),
        pcm(theirs.DualPairConductanceConverter(f_lst=[1.0, 4.0])),
    ),
    "three pairs": Case(
        DeviceSpec.pcm(g_max=20.0, g_min=1.0, converter=PairConverter(significance=(0.5, 1.0, 2.0))),
        pcm(theirs.NPairConductanceConverter(f_lst=[0.5, 1.0, 2.0], g_max=20.0, g_min=1.0)),
    ),
    "custom pair": Case(
        DeviceSpec.pcm(converter=CustomPairConverter(g_plus=G_PLUS, g_minus=G_MINUS)),
        pcm(theirs.CustomPairConductanceConverter(f_lst=[1.0], g_lst=[list(G_PLUS[0]), list(G_MINUS[0])])),
    ),
    "single device": Case(
        DeviceSpec.pcm(g_max=30.0, g_min=2.0, converter=SingleConverter()),
        pcm(theirs.SingleDeviceConductanceConverter(g_max=30.0, g_min=2.0)),
    ),
    "custom drift": Case(DeviceSpec.pcm_custom_drift(drift_table=OUR_TABLE), CustomDriftPCMLikeNoiseModel(TABLE)),
    "CMO 0.2 %": Case(DeviceSpec.reram_cmo(), cmo(0.2)),
    "CMO 2 %": Case(DeviceSpec.reram_cmo(acceptance=2), cmo(2)),
    "Wan": Case(DeviceSpec.reram_wan2022(), ReRamWan2022NoiseModel(), (1.0, DAY, 2 * DAY)),
}


@pytest.fixture(autouse=True)
def _fixed_aihwkit() -> Iterator[None]:
    """AIHWKIT draws from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(23)
        yield


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def program_ours(device: DeviceSpec, seed: int) -> ProgrammedCrossbar:
    return program_crossbar(WEIGHTS.expand(N_CROSSBARS, -1, -1), device, generator=seeded(seed))


def read_ours(chips: ProgrammedCrossbar, device: DeviceSpec, t_inference: float, seed: int) -> Tensor:
    return samples(read_crossbar(chips, device, t_inference=t_inference, generator=seeded(seed)))


def samples(crossbars: Tensor) -> Tensor:
    """Return ``(targets, N)`` samples without their alternating signs."""
    return (crossbars * SIGNS).transpose(0, 1).flatten(1)


def squeezed(weights: Tensor) -> Tensor:
    """AIHWKIT stacks the rows of a single device's matrix, or keeps an axis for its one array of devices."""
    return weights.reshape(WEIGHTS.shape)


def as_theirs(noise: Any, chips: ProgrammedCrossbar) -> list[tuple[Tensor, list[Tensor]]]:
    """Our chips in their form: a weight matrix and one state for each of their arrays of devices."""
    found = []
    for index, weights in enumerate(chips.weights):
        if chips.drift_nu is not None:
            states = [chips.drift_nu[index], chips.drift_nu[index]]
        else:
            states = [state[index] for state in chips.states]
        single = isinstance(noise.g_converter, theirs.SingleDeviceConductanceConverter)
        found.append((weights, list(states[0]) if single else states))
    return found


def read_theirs(noise: Any, chips: list[tuple[Tensor, list[Tensor]]], t_inference: float) -> Tensor:
    return samples(torch.stack([squeezed(noise.apply_drift_noise(w, nu, t_inference)) for w, nu in chips]))


@cache
def reference(name: str) -> tuple[Tensor, list[tuple[Tensor, list[Tensor]]], ProgrammedCrossbar]:
    """Return AIHWKIT's programmed samples and chips, and chips of ours."""
    case = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(29)
        chips = [case.theirs.apply_programming_noise(WEIGHTS) for _ in range(N_CROSSBARS)]
    chips = [(squeezed(weights), states) for weights, states in chips]
    return samples(torch.stack([weights for weights, _ in chips])), chips, program_ours(case.ours, seed=31)


@dataclass(frozen=True)
class Agreement:
    """How two sets of samples compare; deviations of the means are relative to the weight, or to sigma at weight 0."""

    p: float
    mean: float
    sigma: float

    @property
    def holds(self) -> bool:
        """Whether the samples may come from one distribution, and mean and sigma are within 1 %."""
        return self.p > 1e-3 and abs(self.mean) < 0.01 and abs(self.sigma) < 0.01


def compare(ours: Tensor, other: Tensor) -> dict[float, Agreement]:
    found = {}
    for target, one, two in zip((*TARGETS, 0.0), ours.double().numpy(), other.double().numpy(), strict=True):
        assert min(len(one), len(two)) >= N
        found[target] = Agreement(
            p=float(stats.ks_2samp(one, two).pvalue),
            mean=(one.mean() - two.mean()) / (target or two.std()),
            sigma=one.std() / two.std() - 1,
        )
    return found


def disagreements(ours: Tensor, other: Tensor) -> list[tuple[float, Agreement]]:
    return [(target, agreement) for target, agreement in compare(ours, other).items() if not agreement.holds]


# -- agreement --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_conversion_and_back(name: str):
    case = CASES[name]
    expected, params = case.theirs.g_converter.convert_to_conductances(WEIGHTS)
    expected = expected if isinstance(expected, list) else [expected]
    found, scale = convert_to_conductances(WEIGHTS, case.ours)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(convert_to_weights(found, scale, case.ours), WEIGHTS, rtol=1e-5, atol=1e-6)
    back = squeezed(case.theirs.g_converter.convert_back_to_weights(expected, params))
    torch.testing.assert_close(back, WEIGHTS, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_programmed_weights(name: str):
    programmed, _, ours = reference(name)
    assert not disagreements(samples(ours.weights), programmed)


#: Read relative to the largest programmed weight (Wan), or clamped at it (CMO): one lucky draw for each of 40 crossbars, which
#: a test on 200,000 samples sees. These are compared on the same chips, and CMO below its largest weight on fresh ones.
CLAMPED = ("CMO 0.2 %", "CMO 2 %")
LUCKY = ("Wan", *CLAMPED)


def at(names: tuple[str, ...] | list[str]) -> list[tuple[str, float]]:
    return [(name, t) for name in names for t in CASES[name].times]


@pytest.mark.parametrize(("name", "t_inference"), at([name for name in CASES if name != "Wan"]))
def test_programmed_drifted_and_read_weights(name: str, t_inference: float):
    case, (_, chips, ours) = CASES[name], reference(name)
    found = read_ours(ours, case.ours, t_inference, seed=41)
    differing = disagreements(found, read_theirs(case.theirs, chips, t_inference))
    assert not [each for each in differing if not (name in CLAMPED and each[0] == 1.0)]


@pytest.mark.parametrize(("name", "t_inference"), [*at(LUCKY), ("dual pair", DAY), ("custom drift", DAY)])
def test_reads_of_one_and_the_same_chip(name: str, t_inference: float):
    case, (_, _, ours) = CASES[name], reference(name)
    found = read_ours(ours, case.ours, t_inference, seed=43)
    assert not disagreements(found, read_theirs(case.theirs, as_theirs(case.theirs, ours), t_inference))


def test_defaults_are_theirs():
    wan, their_wan = DeviceSpec.reram_wan2022(), ReRamWan2022NoiseModel()
    assert {t: list(row) for t, row in zip(wan.times, wan.noise, strict=True)} == their_wan.coeff_dic
    assert wan.g_max == their_wan.g_max
    for acceptance in (0.2, 2):
        ours, other = DeviceSpec.reram_cmo(acceptance=acceptance), cmo(acceptance)
        assert list(ours.programming_coefficients()) == other.coeff_dict[acceptance]
    assert (ours.g_max, ours.g_min) == (other.g_max, other.g_min)
    assert [ours.relaxation_mean] == other.decay_dict["mean"]
    assert list(ours.relaxation_sigma) == other.decay_dict["std"]
    assert {"K": ours.read_noise, "t_read": ours.t_read} == other.read_dict


def test_scales_multiply_as_theirs():
    noise = ReRamCMONoiseModel(prog_noise_scale=3.0, read_noise_scale=2.0, drift_scale=0.5)
    device = DeviceSpec.reram_cmo(programming_noise_scale=3.0, read_noise_scale=2.0, drift_scale=0.5)
    chips = [noise.apply_programming_noise(WEIGHTS) for _ in range(N_CROSSBARS)]
    expected = read_theirs(noise, [(squeezed(w), states) for w, states in chips], DAY)
    differing = disagreements(read_ours(program_ours(device, seed=61), device, DAY, seed=67), expected)
    assert {target for target, _ in differing} <= {1.0}  # clamped at each crossbar's largest weight


# -- the comparison can fail ------------------------------------------------------------------------------------------

WAN, CMO = DeviceSpec.reram_wan2022(), DeviceSpec.reram_cmo()


def wan(row: int, column: int, factor: float) -> dict[str, object]:
    noise = [list(each) for each in WAN.noise]
    noise[row][column] *= factor
    return {"noise": tuple(tuple(each) for each in noise)}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("g_min", {"g_min": 2.5}),
        ("dual pair", {"converter": PairConverter(significance=(4.0, 1.0))}),
        ("dual pair", {"converter": PairConverter(significance=(1.0, 3.7))}),
        ("three pairs", {"converter": PairConverter(significance=(0.5, 1.0))}),
        ("custom pair", {"converter": PairConverter()}),
        ("single device", {"g_min": 4.0}),
        ("single device", {"converter": PairConverter()}),
        ("CMO 2 %", {"acceptance": 0.2}),
        ("CMO 2 %", {"programming_noise": (0.0112185391, 0.0117)}),
        ("CMO 0.2 %", {"programming_noise": (-0.00081107, 0.00106879)}),
        ("Wan", wan(0, 0, -1)),
        ("Wan", wan(0, 2, 1.05)),
        ("Wan", {"noise_scale": 1.03}),
        ("Wan", {"g_max_of_fit": 40.0}),
    ],
)
def test_changed_programming_is_noticed(name: str, changed: dict[str, object]):
    device = CASES[name].ours.replace(**changed)
    assert disagreements(samples(program_ours(device, seed=31).weights), reference(name)[0])


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("dual pair", {"drift_scale": 1.03}),
        ("dual pair", {"read_noise": (0.0088, 0.5, 1e-3, 0.2)}),
        ("custom pair", {"t_0": 25.0}),
        ("custom drift", {"drift_table": tuple((25 - g, mean, sigma) for g, mean, sigma in OUR_TABLE[::-1])}),
        ("custom drift", {"drift_table": tuple((g, mean * 1.03, sigma) for g, mean, sigma in OUR_TABLE)}),
        ("custom drift", {"drift_table": tuple((g, mean, sigma * 1.1) for g, mean, sigma in OUR_TABLE)}),
        ("custom drift", {"drift_table": OUR_TABLE[:1] + OUR_TABLE[2:]}),
        ("CMO 0.2 %", {"relaxation_mean": 0.08900206}),
        ("CMO 0.2 %", {"relaxation_mean": -0.08}),
        ("CMO 0.2 %", {"relaxation_sigma": (0.04201137, 0.39)}),
        ("CMO 0.2 %", {"relaxation_sigma": (-0.04201137, 0.41183342)}),
        ("CMO 0.2 %", {"read_noise": 0.035}),
        ("CMO 0.2 %", {"drift_scale": 1.03}),
        ("Wan", wan(1, 4, -1)),
        ("Wan", wan(1, 1, 1.05)),
        ("Wan", {"times": (1.0, 86400.0, 172800.0), "noise": (WAN.noise[1], WAN.noise[0], WAN.noise[2])}),
    ],
)
def test_changed_drift_and_reads_are_noticed(name: str, changed: dict[str, object]):
    case, (_, _, ours) = CASES[name], reference(name)
    device = case.ours.replace(**changed)
    chips = ours if name == "Wan" else program_ours(device, seed=31)
    expected = read_theirs(case.theirs, as_theirs(case.theirs, ours), DAY)
    assert disagreements(read_ours(chips, device, DAY, seed=41), expected)
