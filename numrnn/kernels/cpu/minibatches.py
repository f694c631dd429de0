"""Training on one minibatch after the other without leaving compiled code: forward, loss, backward, update.

For networks of one recurrent layer in one direction whose readout sees the last hidden states. What is computed is what
the kernels of layer, readout, loss and solver compute when they are called one by one, to the bit: it is they that are
called here. What is saved is everything between them, which for a small network is as much work as they are: threads
meet three times in a minibatch, and nobody waits for an interpreter. The kernels are called by their addresses, so that
one loop, which is compiled in a moment, serves all cells, losses and solvers of one type.
"""

# mypy: disable-error-code="no-untyped-def, misc, operator"
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numrnn.kernels.barrier import meet
from numrnn.kernels.cpu.gradients import weight_gradients
from numrnn.kernels.cpu.likelihoods import LIKELIHOODS
from numrnn.kernels.cpu.losses import LOSSES, cross_entropy, weight_penalty
from numrnn.kernels.cpu.matmul import pack_layer, pack_rows
from numrnn.kernels.cpu.pairs import pair_columns, pair_rows
from numrnn.kernels.cpu.readout import readout, readout_input_adjoint, readout_weight_adjoint
from numrnn.kernels.cpu.recurrent import RECURRENT
from numrnn.kernels.cpu.solvers import adam_spans, euclidean_norm, rmsprop_spans, sgd_spans
from numrnn.kernels.jit import COMPILED, ZERO, kernel, paste, specialize
from numrnn.kernels.pointers import call, pointer_to
from numrnn.kernels.simd import numbers_in
from numrnn.kernels.updates import clip_factor

__all__ = [
    "FINITE",
    "LOSS_NOT_FINITE",
    "Batches",
    "Form",
    "Kernels",
    "Memory",
    "OwnMemory",
    "Samples",
    "Weights",
    "kernels_for",
    "losses_of_minibatches",
    "train_on",
]

# How a call ends: all minibatches have been trained on; or the loss, or else the gradient of one is not finite.
FINITE, LOSS_NOT_FINITE, GRADIENT_NOT_FINITE = 0, 1, 2


class Batches(NamedTuple):
    """The minibatches of an epoch. `bounds[b]` are the first sequence and the one past the last."""

    bounds: NDArray[np.int64]
    # The sequences of a minibatch in the order of its `Packing`, at their places in the epoch.
    order: NDArray[np.int64]
    # Which are in the caller's order.
    in_order: NDArray[np.bool_]
    # Of the packing of minibatch b: `offsets[offset_bounds[b, 0] : offset_bounds[b, 1]]`.
    offsets: NDArray[np.int64]
    offset_bounds: NDArray[np.int64]
    # (n_batches, n_threads + 1): where the sequences of each thread begin, in the order of the packing.
    shares: NDArray[np.int64]
    # Factors of the gradient of each: that of the loss, and that of the weight that the minibatch has beside others.
    scales: NDArray[np.float64]
    factors: NDArray[np.float64]
    has_factors: bool
    # Written: the losses.
    losses: NDArray[np.float64]


class Samples(NamedTuple):
    """Sequences, in the order of the epoch, each from row `starts[i]` of `values` on; targets and weights of each."""

    values: NDArray
    starts: NDArray[np.int64]
    targets: NDArray
    weights: NDArray[np.float64]


class Weights(NamedTuple):
    """Parameters, or their gradients: the vector `flat`, and its parts."""

    flat: NDArray
    weight_ih: NDArray
    weight_hh: NDArray
    bias_ih: NDArray
    bias_hh: NDArray
    weight_out: NDArray
    bias_out: NDArray


class Form(NamedTuple):
    """Numbers and tables that stay; see `Direction` for those of the layer."""

    input_size: int
    hidden_size: int
    padded: int
    n_slots: int
    n_states: int
    input_gates: NDArray[np.int64]
    hidden_gates: NDArray[np.int64]
    identity: NDArray[np.int64]
    # Sequences that go there and back at once.
    at_once: int
    # Rows whose losses are summed before they are added to others.
    unit_rows: int
    penalty: float
    penalty_begins: NDArray[np.int64]
    penalty_ends: NDArray[np.int64]
    max_norm: float
    # Numba compiles functions anew for each constant.
    yes: bool
    no: bool
    one: int
    # What stands for arrays that are not given.
    no_states: NDArray
    no_rows: NDArray
    no_rows_read: NDArray
    no_table: NDArray[np.int64]


class Memory(NamedTuple):
    """What threads share; sizes are for the largest minibatch. See the kernels of the layer, the readout and the loss.

    Of what some kernels only read there is a view that cannot be written, since they are compiled for that.
    """

    value_rows: NDArray[np.int64]
    state: NDArray
    # What the recurrent products read, forward and back: state and saved themselves, or, of pairs, arrays of their own.
    hidden: NDArray
    d_factors: NDArray
    saved: NDArray
    previous: NDArray
    previous_read: NDArray
    final: NDArray
    outputs: NDArray
    d_outputs: NDArray
    d_features: NDArray
    d_features_read: NDArray
    d_state: NDArray
    d_initial: NDArray
    row_losses: NDArray[np.float64]
    penalty: NDArray[np.float64]
    # Written when a call ends: how, the minibatch at which, and the minibatch after the last one that was used.
    ending: NDArray[np.int64]


class OwnMemory(NamedTuple):
    """What a thread has for itself, and its part of the work that is not divided by sequences."""

    packed: NDArray
    hidden_panels: NDArray
    # The same memory as numbers.
    packed_numbers: NDArray
    hidden_panel_numbers: NDArray
    # Scratch for the weights in pairs, and the same memory as matrices of numbers; empty where they are not paired.
    pairs: NDArray
    pairs_begins: NDArray[np.int64]
    pairs_ih: NDArray
    pairs_hh: NDArray
    pairs_back: NDArray
    z: NDArray
    chunk_rows: NDArray[np.int64]
    factors: NDArray
    sum_factors: NDArray
    sums: NDArray
    panel: NDArray
    block: NDArray
    product: NDArray
    # Pre-activations whose weights' gradients it sums, outputs of the readout, and elements of the parameters.
    slot_begin: int
    slot_end: int
    output_begin: int
    output_end: int
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]


class Kernels(NamedTuple):
    """Pointers to the kernels of a network, its loss and its solver."""

    pack_layer: Any
    pack_rows: Any
    forward: Any
    readout: Any
    loss_of_rows: Any
    readout_input_adjoint: Any
    backward: Any
    weight_gradients: Any
    readout_weight_adjoint: Any
    weight_penalty: Any
    update: Any


# What the kernels are given. Written once: for the calls, and for the types that they are compiled for.
@paste
def _of_pack_layer(weight_ih, weight_hh, weights, form, own):
    return (
        weight_ih,
        weight_hh,
        weights.bias_ih,
        weights.bias_hh,
        form.input_gates,
        form.hidden_gates,
        form.n_slots,
        form.hidden_size,
        ZERO,
        form.padded,
        form.identity,
        own.packed_numbers,
    )


@paste
def _of_pack_rows(weight, size, padded, form, own):
    return weight, form.hidden_gates, size, padded, ZERO, form.padded, own.hidden_panel_numbers


@paste
def _of_forward(samples, form, memory, own, offsets, order, n_sequences, part, counter):
    return (
        samples.values,
        memory.value_rows,
        form.input_size,
        own.packed,
        form.no_states,
        form.no,
        memory.final,
        ZERO,
        form.no_rows,
        form.no_table,
        ZERO,
        ZERO,
        form.no,
        form.input_size,
        form.hidden_size,
        form.padded,
        memory.state,
        memory.hidden,
        memory.state,
        form.no,
        n_sequences,
        offsets,
        order,
        form.identity,
        form.no,
        part[0],
        part[1],
        ZERO,
        form.padded,
        counter,
        form.one,
        own.z,
        own.chunk_rows,
        memory.saved,
        memory.previous,
        memory.previous,
        form.yes,
        own.factors,
    )


@paste
def _of_readout(weights, form, memory, own, n_sequences, begin, end):
    return (
        memory.final[0, 0, :n_sequences],
        weights.weight_out,
        weights.bias_out,
        begin,
        end,
        form.identity,
        own.panel,
        own.block,
        memory.outputs[:n_sequences],
    )


@paste
def _of_loss(samples, memory, settings, scale, first, row):
    """Of one row: sequence `row` of the minibatch that begins at `first`."""
    return (
        memory.outputs[row : row + 1],
        samples.targets[first + row : first + row + 1],
        samples.weights[first + row : first + row + 1],
        settings,
        scale,
        memory.d_outputs[row : row + 1],
    )


@paste
def _of_input_adjoint(weights, form, memory, own, n_sequences, begin, end):
    return (
        memory.d_outputs[:n_sequences],
        weights.weight_out,
        begin,
        end,
        form.yes,
        form.identity,
        own.panel,
        own.block,
        memory.d_features[:n_sequences],
    )


@paste
def _of_backward(weights, form, memory, own, offsets, order, n_sequences, part, counter):
    return (
        weights.weight_hh,
        own.hidden_panels,
        form.no_states,
        form.no,
        memory.d_features_read,
        form.yes,
        memory.d_initial,
        ZERO,
        form.no_rows_read,
        form.no_table,
        ZERO,
        ZERO,
        form.no,
        form.hidden_gates,
        form.hidden_size,
        form.padded,
        memory.d_state,
        memory.d_state,
        memory.d_state,
        form.no,
        n_sequences,
        offsets,
        order,
        form.identity,
        form.no,
        part[0],
        part[1],
        ZERO,
        form.padded,
        counter,
        form.one,
        memory.saved,
        memory.previous,
        memory.d_factors,
    )


@paste
def _of_weight_gradients(samples, form, gradient, memory, own, n_rows):
    return (
        memory.saved,
        n_rows,
        form.n_slots * form.padded,
        form.padded,
        form.hidden_size,
        own.slot_begin,
        own.slot_end,
        form.identity,
        form.input_gates,
        samples.values,
        memory.value_rows,
        form.input_size,
        gradient.weight_ih,
        gradient.bias_ih,
        form.hidden_gates,
        memory.previous_read,
        form.n_states * form.padded,
        gradient.weight_hh,
        gradient.bias_hh,
        own.sum_factors,
        own.sums,
    )


@paste
def _of_weight_adjoint(form, gradient, memory, own, n_sequences):
    return (
        memory.d_outputs[:n_sequences],
        memory.final[0, 0, :n_sequences],
        own.output_begin,
        own.output_end,
        form.identity,
        own.panel,
        own.block,
        own.product,
        gradient.weight_out,
        gradient.bias_out,
    )


@paste
def _of_penalty(weights, gradient, form, scale):
    return weights.flat, gradient.flat, form.penalty_begins, form.penalty_ends, form.penalty * scale


@paste
def _of_update(weights, gradient, own, factor, step, rate, settings):
    return (weights.flat, gradient.flat, own.begins, own.ends, factor, step, rate, *settings)


@kernel
def train_on(
    thread,
    n_threads,
    counter,
    first_batch,
    last_batch,
    first_step,
    rate,
    batches,
    samples,
    kernels,
    form,
    weights,
    gradient,
    memory,
    own,
    solver_settings,
    loss_settings,
):
    """Train on minibatches `first_batch` to `last_batch`, this thread's share of each.

    first_step: the number of the update after minibatch 0 of the epoch, from 1. counter: zero before, as for `meet`.
    The solver's settings, and those of the loss, are what `kernels.update` and `kernels.loss_of_rows` want beside the
    rest. Where a loss or a gradient is not finite the parameters stay as they are before that minibatch, and no other
    follows.
    """
    meetings = 0
    for batch in range(first_batch, last_batch):
        first, last = batches.bounds[batch]
        n_sequences = last - first
        order = batches.order[first:last]
        offsets = batches.offsets[batches.offset_bounds[batch, 0] : batches.offset_bounds[batch, 1]]
        n_steps = len(offsets) - 1
        n_rows = offsets[n_steps]
        share_begin, share_end = batches.shares[batch, thread], batches.shares[batch, thread + 1]
        in_order = batches.in_order[batch]
        for t in range(n_steps):
            for n in range(share_begin, min(share_end, offsets[t + 1] - offsets[t])):
                memory.value_rows[offsets[t] + n] = samples.starts[first + order[n]] + t
        gradient.flat[own.begins[0] : own.ends[0]] = 0
        weight_ih, weight_hh, weight_back = weights.weight_ih, weights.weight_hh, weights.weight_hh
        size, padded = form.hidden_size, form.padded
        if numbers_in(own.packed) > 1:
            pair_columns(weight_ih, own.pairs[: own.pairs_begins[1]])
            pair_columns(weight_hh, own.pairs[own.pairs_begins[1] : own.pairs_begins[2]])
            pair_rows(weight_hh, size, own.pairs[own.pairs_begins[2] :])
            weight_ih, weight_hh, weight_back = own.pairs_ih, own.pairs_hh, own.pairs_back
            size, padded = (size + 1) // 2, padded // 2
        call(kernels.pack_layer, _of_pack_layer(weight_ih, weight_hh, weights, form, own))
        call(kernels.pack_rows, _of_pack_rows(weight_back, size, padded, form, own))
        # While few sequences go there and back, what the way back needs is still in this thread's caches.
        at_once = form.at_once if in_order else n_sequences
        begin = share_begin
        while True:
            end = min(begin + at_once, share_end)
            part = (begin, end)
            call(kernels.forward, _of_forward(samples, form, memory, own, offsets, order, n_sequences, part, counter))
            row_begin, row_end = begin, end
            if not in_order:
                # The features of a thread's sequences are not neighbours.
                row_begin, row_end = n_sequences * thread // n_threads, n_sequences * (thread + 1) // n_threads
                if n_threads > 1:
                    meetings += 1
                    meet(counter, n_threads, meetings)
            call(kernels.readout, _of_readout(weights, form, memory, own, n_sequences, row_begin, row_end))
            for row in range(row_begin, row_end):
                memory.row_losses[row] = call(
                    kernels.loss_of_rows, _of_loss(samples, memory, loss_settings, batches.scales[batch], first, row)
                )
            call(
                kernels.readout_input_adjoint,
                _of_input_adjoint(weights, form, memory, own, n_sequences, row_begin, row_end),
            )
            if not in_order and n_threads > 1:
                meetings += 1
                meet(counter, n_threads, meetings)
            call(kernels.backward, _of_backward(weights, form, memory, own, offsets, order, n_sequences, part, counter))
            begin = end
            if begin >= share_end:
                break
        if n_threads > 1:
            meetings += 1
            meet(counter, n_threads, meetings)
        call(kernels.weight_gradients, _of_weight_gradients(samples, form, gradient, memory, own, n_rows))
        call(kernels.readout_weight_adjoint, _of_weight_adjoint(form, gradient, memory, own, n_sequences))
        if n_threads > 1:
            meetings += 1
            meet(counter, n_threads, meetings)
        # From here on all threads come to the same conclusions, each by itself.
        total = 0.0
        for unit in range(0, n_sequences, form.unit_rows):
            of_unit = 0.0
            for row in range(unit, min(unit + form.unit_rows, n_sequences)):
                of_unit += memory.row_losses[row]
            total += of_unit
        loss = total * batches.scales[batch]
        if form.penalty != 0.0 and batches.scales[batch] != 0.0:
            if thread == 0:
                memory.penalty[0] = call(
                    kernels.weight_penalty, _of_penalty(weights, gradient, form, batches.scales[batch])
                )
            if n_threads > 1:
                meetings += 1
                meet(counter, n_threads, meetings)
            loss += memory.penalty[0]
        if thread == 0:
            batches.losses[batch] = loss
            memory.ending[1] = batch
            memory.ending[2] = batch + 1
        if not math.isfinite(loss):
            if thread == 0:
                memory.ending[0] = LOSS_NOT_FINITE
                memory.ending[2] = batch
            return
        if batches.has_factors:
            # The loss of a minibatch is a mean by its own weights. In the mean over all data a minibatch of light rows
            # counts for less.
            factor = gradient.flat.dtype.type(batches.factors[batch])
            for i in range(own.begins[0], own.ends[0]):
                gradient.flat[i] *= factor
            if n_threads > 1:
                meetings += 1
                meet(counter, n_threads, meetings)
        norm = euclidean_norm(gradient.flat)
        if not math.isfinite(norm):
            if thread == 0:
                memory.ending[0] = GRADIENT_NOT_FINITE
                memory.ending[2] = batch
            return
        clip = clip_factor(norm, form.max_norm)
        call(kernels.update, _of_update(weights, gradient, own, clip, first_step + batch, rate, solver_settings))
        if n_threads > 1:
            meetings += 1
            meet(counter, n_threads, meetings)
    if thread == 0:
        memory.ending[0] = FINITE


@kernel
def _cross_entropy(outputs, targets, weights, settings, scale, d_outputs):
    return cross_entropy(outputs, targets, weights, settings[0], settings[1], scale, d_outputs)


# Stands for a loss of values.
loss = None


def _of_values(outputs, targets, weights, settings, scale, d_outputs):
    return loss(outputs, targets, weights, scale, d_outputs)


def _losses() -> dict[str, Any]:
    """The losses with one signature; settings of the cross-entropy are its smoothing and its workspace."""
    plain = {name: function for name, function in LOSSES.items() if name != "cross_entropy"}
    plain |= {name: likelihood.kernel for name, likelihood in LIKELIHOODS.items() if name != "quantile"}
    return {"cross_entropy": _cross_entropy} | {
        name: specialize(_of_values, f"{name}_of_rows", loss=function) for name, function in plain.items()
    }


_LOSSES = _losses()
_UPDATES = {"sgd": sgd_spans, "adam": adam_spans, "rmsprop": rmsprop_spans}
losses_of_minibatches = frozenset(_LOSSES)


def kernels_for(
    cell: str,
    loss: str,
    solver: str,
    batches: Batches,
    samples: Samples,
    form: Form,
    weights: Weights,
    gradient: Weights,
    memory: Memory,
    own: OwnMemory,
    solver_settings: tuple[Any, ...],
    loss_settings: tuple[Any, ...],
) -> Kernels:
    """Pointers to the kernels of a cell, one of `losses_of_minibatches`, and "sgd", "adam" or "rmsprop".

    They are compiled for what `train_on` will be given, if they have not been before.
    """
    offsets, order, counter = batches.offsets, batches.order, np.zeros(1, dtype=np.int64)
    walk = (offsets, order, 1, (0, 1), counter)

    def of(arguments: Any, *given: Any) -> Any:
        return (arguments.py_func if COMPILED else arguments)(*given)

    return Kernels(
        pointer_to(pack_layer, *of(_of_pack_layer, weights.weight_ih, weights.weight_hh, weights, form, own)),
        pointer_to(pack_rows, *of(_of_pack_rows, weights.weight_hh, form.hidden_size, form.padded, form, own)),
        pointer_to(RECURRENT[cell].forward, *of(_of_forward, samples, form, memory, own, *walk)),
        pointer_to(readout, *of(_of_readout, weights, form, memory, own, 1, 0, 1)),
        pointer_to(_LOSSES[loss], *of(_of_loss, samples, memory, loss_settings, 1.0, 0, 0)),
        pointer_to(readout_input_adjoint, *of(_of_input_adjoint, weights, form, memory, own, 1, 0, 1)),
        pointer_to(RECURRENT[cell].backward, *of(_of_backward, weights, form, memory, own, *walk)),
        pointer_to(weight_gradients, *of(_of_weight_gradients, samples, form, gradient, memory, own, 1)),
        pointer_to(readout_weight_adjoint, *of(_of_weight_adjoint, form, gradient, memory, own, 1)),
        pointer_to(weight_penalty, *of(_of_penalty, weights, gradient, form, 1.0)),
        pointer_to(_UPDATES[solver], *of(_of_update, weights, gradient, own, 1.0, 1, 1.0, solver_settings)),
    )
