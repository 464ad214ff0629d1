"""Recurrent layers and cells (RNN, LSTM, GRU) as in PyTorch, except that a callback computes the products with weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lionheart.errors import ConfigError, UnsupportedLayerError

Project = Callable[[str, Tensor], Tensor]
State = tuple[Tensor, ...]  # hidden state; for an LSTM hidden and cell state


class RecurrentSettings(Protocol):
    """Settings of a recurrent layer: the attributes of `nn.RNN`, `nn.LSTM` or `nn.GRU` that `run_recurrent` reads.

    `torch.compile` does not trace code that uses an instance of `nn.RNN`, `nn.LSTM` or `nn.GRU`. For code that is to be
    compiled, use an object of another class with these attributes.
    """

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int
    training: bool


def run_recurrent(
    rnn: RecurrentSettings,
    project: Project,
    inputs: Tensor | PackedSequence,  # (T, N, in), (N, T, in) if batch_first, or (T, in)
    hx: Tensor | Sequence[Tensor] | None = None,  # (layers * directions, N, hidden) or (layers * directions, hidden)
) -> tuple[Tensor | PackedSequence, Tensor | tuple[Tensor, Tensor]]:
    """Return the result of ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``. The function `project` computes the products with weights.

    Args:
        rnn: Recurrent layer, or an object with its settings. The weights of the layer are not used.
        project: Function that is called as ``project(name, x)`` and returns ``x @ W.T + b`` of shape ``(..., out)`` for ``x``
            of shape ``(..., in)``, without ``b`` if the projection has no bias. For layer ``k``, the names are ``ih_l{k}``
            (called once for all time steps), ``hh_l{k}`` (called for each time step) and, if ``proj_size`` is not 0,
            ``hr_l{k}`` (called for each time step, no bias). Names for the reverse direction end with ``_reverse``.
        inputs: Input tensor, or packed sequences.
        hx: Initial hidden state; for an LSTM, initial hidden state and cell state. None = zeros.

    Returns:
        Outputs of the last layer, and the final states, shaped like `hx`. The outputs have the form of `inputs` (tensor or
        packed sequences) and the size ``directions * hidden`` in the last dimension.

    Raises:
        ConfigError: The shape of an input or a state is wrong, or there are no time steps.
        UnsupportedLayerError: The mode of the layer is unknown.

    Assumes:
        For packed sequences, `project` also receives vectors after the end of a sequence: zeros as inputs, and the last state.
        The results for these vectors are discarded.
    """
    if rnn.mode not in _UPDATES:
        raise UnsupportedLayerError(
            f"recurrent layer: unknown mode {rnn.mode!r}",
            hint=f"keep the layer digital, or use one of the known modes: {', '.join(_UPDATES)}",
        )
    if isinstance(inputs, PackedSequence):
        return _run_packed(rnn, project, inputs, hx)
    _check_inputs(inputs, rnn.input_size, (2, 3), "inputs")
    is_batched = inputs.ndim == 3
    batch_axis = 0 if is_batched and rnn.batch_first else 1
    steps = (inputs if is_batched else inputs.unsqueeze(1)).movedim(batch_axis, 1)
    outputs, states = _run_layers(rnn, project, steps, _initial_states(rnn, steps, hx, is_batched), None)
    outputs = outputs.movedim(1, batch_axis)
    if is_batched:
        return outputs, _as_hx(states)
    return outputs.squeeze(1), _as_hx(tuple(state.squeeze(1) for state in states))


def run_cell(
    cell: nn.RNNCellBase,
    project: Project,
    inputs: Tensor,  # (N, in) or (in,)
    hx: Tensor | Sequence[Tensor] | None = None,  # (N, hidden) or (hidden,)
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the result of ``nn.RNNCell``, ``nn.LSTMCell`` or ``nn.GRUCell``. `project` computes the products with weights.

    Args:
        cell: Cell with the settings to use. Its weights are not used.
        project: Function that is called as ``project(name, x)`` with the names ``ih`` and ``hh`` of the two weight matrices.
            It returns ``x @ W.T + b`` of shape ``(N, out)`` for ``x`` of shape ``(N, in)``, without ``b`` if the cell has no
            bias.
        inputs: Inputs of one time step, ``(N, in)`` or unbatched ``(in,)``.
        hx: Hidden state before the time step; for an LSTM, hidden state and cell state. None = zeros.

    Returns:
        State after the time step, shaped like `hx`.

    Raises:
        ConfigError: The shape of an input or a state is wrong.
        UnsupportedLayerError: The type of the cell is unknown.
    """
    mode = _mode_of_cell(cell)
    _check_inputs(inputs, cell.input_size, (1, 2), "inputs")
    is_batched = inputs.ndim == 2
    step = inputs if is_batched else inputs.unsqueeze(0)
    shape = (len(step), cell.hidden_size)
    states = _take_states(hx, [shape] * _n_states(mode), step, None if is_batched else 0)
    states = _UPDATES[mode](project("ih", step), project("hh", states[0]), states)
    return _as_hx(states if is_batched else tuple(state.squeeze(0) for state in states))


def _mode_of_cell(cell: nn.RNNCellBase) -> str:
    """Return the mode of the recurrent layer with the same computation as `cell`, for example ``"LSTM"``."""
    if isinstance(cell, nn.LSTMCell):
        return "LSTM"
    if isinstance(cell, nn.GRUCell):
        return "GRU"
    if isinstance(cell, nn.RNNCell) and cell.nonlinearity in ("tanh", "relu"):
        return f"RNN_{cell.nonlinearity.upper()}"
    raise UnsupportedLayerError(
        f"recurrent cell: got a {type(cell).__name__}, expected an RNNCell with tanh or relu, an LSTMCell or a GRUCell",
        hint="keep the cell digital",
    )


def _run_packed(
    rnn: RecurrentSettings, project: Project, inputs: PackedSequence, hx: Tensor | Sequence[Tensor] | None
) -> tuple[PackedSequence, Tensor | tuple[Tensor, Tensor]]:
    """Return the packed outputs and the final states of a recurrent layer for packed sequences in `inputs`."""
    data, batch_sizes, sorted_indices, unsorted_indices = inputs
    _check_inputs(data, rnn.input_size, (2,), "data of the packed inputs")
    steps, lengths = pad_packed_sequence(PackedSequence(data, batch_sizes))
    mask = (torch.arange(len(steps))[:, None] < lengths).unsqueeze(-1).to(data.device)
    states = _initial_states(rnn, steps, hx, is_batched=True)
    if hx is not None and sorted_indices is not None:
        states = tuple(state.index_select(1, sorted_indices) for state in states)
    outputs, states = _run_layers(rnn, project, steps, states, mask)
    if unsorted_indices is not None:
        states = tuple(state.index_select(1, unsorted_indices) for state in states)
    packed = pack_padded_sequence(outputs, lengths)
    return PackedSequence(packed.data, batch_sizes, sorted_indices, unsorted_indices), _as_hx(states)


def _run_layers(
    rnn: RecurrentSettings,
    project: Project,
    inputs: Tensor,  # (T, N, in)
    states: State,  # (layers * directions, N, hidden) each
    mask: Tensor | None,  # (T, N, 1)
) -> tuple[Tensor, State]:  # (T, N, directions * hidden), (layers * directions, N, hidden) each
    """Compute all layers and directions. Return the outputs of the last layer, and the final states of all layers.

    `mask` is True for each time step within the length of a sequence. None = all sequences have the same length.
    """
    suffixes = ("", "_reverse") if rnn.bidirectional else ("",)
    last_states: list[State] = []
    for layer in range(rnn.num_layers):
        if layer > 0 and rnn.training and rnn.dropout > 0:
            inputs = F.dropout(inputs, rnn.dropout)
        outputs = []
        for suffix in suffixes:
            initial = tuple(state[len(last_states)] for state in states)
            output, last = _run_direction(rnn, project, f"l{layer}{suffix}", inputs, initial, mask)
            outputs.append(output)
            last_states.append(last)
        inputs = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
    return inputs, tuple(torch.stack(each) for each in zip(*last_states, strict=True))


def _run_direction(
    rnn: RecurrentSettings,
    project: Project,
    name: str,
    inputs: Tensor,  # (T, N, in)
    state: State,  # (N, hidden) each
    mask: Tensor | None,  # (T, N, 1)
) -> tuple[Tensor, State]:  # (T, N, hidden), (N, hidden) each
    """Compute one direction of one layer, and return the outputs of all time steps and the final state.

    `name` identifies layer and direction in the names of projections, for example ``l0_reverse``. Where `mask` is False, the
    state does not change and the output is 0.
    """
    update, is_reverse = _UPDATES[rnn.mode], name.endswith("_reverse")
    from_inputs = project(f"ih_{name}", inputs).unbind(0)
    order = range(len(from_inputs))
    outputs = []
    for t in reversed(order) if is_reverse else order:
        updated = update(from_inputs[t], project(f"hh_{name}", state[0]), state)
        if rnn.proj_size > 0:
            updated = (project(f"hr_{name}", updated[0]), *updated[1:])
        if mask is not None:
            updated = tuple(torch.where(mask[t], new, old) for new, old in zip(updated, state, strict=True))
        state = updated
        outputs.append(state[0])
    stacked = torch.stack(outputs[::-1] if is_reverse else outputs)
    return stacked if mask is None else stacked.masked_fill(~mask, 0.0), state


def _update_tanh(from_inputs: Tensor, from_hidden: Tensor, state: State) -> State:
    return (torch.tanh(from_inputs + from_hidden),)


def _update_relu(from_inputs: Tensor, from_hidden: Tensor, state: State) -> State:
    return (torch.relu(from_inputs + from_hidden),)


def _update_lstm(from_inputs: Tensor, from_hidden: Tensor, state: State) -> State:
    """Return the next hidden and cell state of an LSTM; `from_inputs` and `from_hidden` are ``(N, 4 * hidden)``."""
    into, forget, candidate, out = (from_inputs + from_hidden).chunk(4, dim=-1)
    cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(into) * torch.tanh(candidate)
    return torch.sigmoid(out) * torch.tanh(cell), cell


def _update_gru(from_inputs: Tensor, from_hidden: Tensor, state: State) -> State:
    """Return the next hidden state of a GRU; `from_inputs` and `from_hidden` are ``(N, 3 * hidden)``."""
    reset_in, keep_in, candidate_in = from_inputs.chunk(3, dim=-1)
    reset_hidden, keep_hidden, candidate_hidden = from_hidden.chunk(3, dim=-1)
    reset, keep = torch.sigmoid(reset_in + reset_hidden), torch.sigmoid(keep_in + keep_hidden)
    candidate = torch.tanh(candidate_in + reset * candidate_hidden)
    return ((state[0] - candidate) * keep + candidate,)


_UPDATES = {"RNN_TANH": _update_tanh, "RNN_RELU": _update_relu, "LSTM": _update_lstm, "GRU": _update_gru}


def _n_states(mode: str) -> int:
    return 2 if mode == "LSTM" else 1


def _initial_states(
    rnn: RecurrentSettings,
    steps: Tensor,  # (T, N, in)
    hx: Tensor | Sequence[Tensor] | None,
    is_batched: bool,
) -> State:  # (layers * directions, N, hidden) each
    """Return the initial states in `hx`, or zeros if `hx` is None, with a batch dimension of size 1 if not `is_batched`."""
    if len(steps) == 0:
        raise ConfigError("inputs: got 0 time steps, expected at least one", hint="remove all empty sequences")
    n_runs = rnn.num_layers * (2 if rnn.bidirectional else 1)
    widths = [rnn.proj_size or rnn.hidden_size, rnn.hidden_size][: _n_states(rnn.mode)]
    return _take_states(hx, [(n_runs, steps.shape[1], width) for width in widths], steps, None if is_batched else 1)


def _take_states(
    hx: Tensor | Sequence[Tensor] | None,
    shapes: Sequence[tuple[int, ...]],
    like: Tensor,
    batch_axis: int | None,
) -> State:
    """Return the states in `hx` after a check of their shapes, or zeros if `hx` is None.

    Args:
        hx: One or more states, or None.
        shapes: Shape of each returned state, with the batch dimension.
        like: Tensor with the data type and device for zeros.
        batch_axis: Position of the batch dimension to insert if the states are unbatched; None = the states are batched.
    """
    if hx is None:
        return tuple(like.new_zeros(shape) for shape in shapes)
    given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    expected = [tuple(n for axis, n in enumerate(shape) if axis != batch_axis) for shape in shapes]
    if [tuple(state.shape) for state in given] != expected:
        got = ", ".join(str(tuple(state.shape)) for state in given)
        raise ConfigError(
            f"hx: got states of the shapes {got}, expected {', '.join(map(str, expected))}",
            hint="give states of the expected shapes, or omit hx to begin with states of zeros",
        )
    return tuple(state if batch_axis is None else state.unsqueeze(batch_axis) for state in given)


def _as_hx(states: State) -> Tensor | tuple[Tensor, Tensor]:
    return states[0] if len(states) == 1 else (states[0], states[1])


def _check_inputs(inputs: Tensor, input_size: int, n_dims: tuple[int, ...], name: str) -> None:
    """Raise an error unless `inputs.ndim` is in `n_dims` and the last dimension of `inputs` has the size `input_size`.

    The error message begins with `name`.
    """
    if inputs.ndim not in n_dims:
        allowed = " or ".join(f"{n}-D" for n in n_dims)
        raise ConfigError(
            f"{name}: got a tensor of shape {tuple(inputs.shape)}, expected a {allowed} tensor",
            hint="reshape the tensor so that its last dimension contains the features of one time step",
        )
    if inputs.shape[-1] != input_size:
        raise ConfigError(
            f"{name}: got shape {tuple(inputs.shape)}, expected the size {input_size} (input_size) in the last dimension",
            hint="give input_size features for each time step, or create the layer with another input_size",
        )
