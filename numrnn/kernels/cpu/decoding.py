"""Decoders that write on their own: beam search, draws, and sequences of numbers, many sources at a time.

Rows are hypotheses. A step takes all that are alive through the decoder in one product each; the states lie in two
halves, one of which is written while the other one is read through the table `previous`, so that choosing, dropping and
repeating hypotheses moves nothing. Logits are computed for a unit of rows at a time.

Arrays that all functions here share, of one floating-point type unless said otherwise:

===============  ===================================  ==================================================================
argument         shape                                meaning
===============  ===================================  ==================================================================
memory                                                see `decoder.Memory`; total is 2 * max_rows. States of source n
                                                      are in row n; firsts and lasts are scratch
previous         int64 (max_rows,)                    scratch
rows                                                  see `Hypotheses`; scratch
squashed         (max_rows, readout.read_pitch)       scratch
logits           (unit, readout.out_pitch)            scratch; its size says how many rows are a unit
firsts, lasts    int64 (n_sources,)                   encoder rows of every source
most             int64 (n_sources,)                   tokens at most, or time steps
attention_out    (n_sources * n_best, longest_target  of every token, the mean over heads; empty if not wanted
                 , longest source)
===============  ===================================  ==================================================================
"""

# mypy: disable-error-code="no-untyped-def, misc, operator"
from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from numrnn.kernels.activations import exp
from numrnn.kernels.cpu.decoder import DECODER, squash
from numrnn.kernels.cpu.matmul import multiply
from numrnn.kernels.cpu.sampling import choose
from numrnn.kernels.equations import CELLS, Cell
from numrnn.kernels.jit import ZERO, inline, kernel, specialize
from numrnn.kernels.simd import lanes, load, store, where_positive, zeros_like

__all__ = ["DECODING", "Hypotheses", "Readout"]

N_SLOTS = N_INPUT_GATES = 0
advance: Any = None
one_step: Any = None


class Readout(NamedTuple):
    """Weights around the steps, as `multiply` wants them: of inputs, of the features by part, and of the outputs."""

    inputs: Any
    bias: Any
    state: Any
    context: Any
    given: Any
    read_bias: Any
    out: Any
    out_bias: Any
    input_size: int
    read_size: int
    read_pitch: int
    n_outputs: int
    out_pitch: int


class Hypotheses(NamedTuple):
    """Scratch of the loops below; the arrays after `sources` are for the search alone.

    tokens, sources, new_sources: int64 (max_rows,). likelihoods, new_likelihoods: float64 (max_rows,). scores: float64,
    and ids: int64, (max_rows, min(width + 1, n_outputs)). coverage: float64 (2, max_rows, longest). place: int64
    (width,). n_ended, n_found: int64 (n_sources,).
    """

    tokens: Any
    sources: Any
    likelihoods: Any
    new_likelihoods: Any
    new_sources: Any
    scores: Any
    ids: Any
    coverage: Any
    place: Any
    n_ended: Any
    n_found: Any


def _one_step(
    attention, layout, panels, memory, readout, x, x_rows, previous, new0, count, identity, lane, squashed
):  # fmt: skip
    """`count` rows with inputs x[x_rows[i]] from states previous[i] to new0 + i, and on to the features."""
    n_lanes = lanes(squashed)
    saved = memory.saved
    slots = N_SLOTS * layout[0, 1]
    columns = N_INPUT_GATES * layout[0, 1]
    multiply(
        x, ZERO, x_rows, ZERO, count, readout.input_size, readout.inputs, ZERO, readout.input_size, columns,
        readout.bias, ZERO, ZERO, saved, ZERO, slots,
    )  # fmt: skip
    for i in range(count):
        for column in range(columns, slots, n_lanes):
            store(saved, i * slots + column, load(readout.bias, column))
    advance(attention, layout, panels, memory, previous, ZERO, new0, ZERO, ZERO, count, identity, lane)
    top = layout.shape[0] - 1
    size, padded = layout[top, 0], layout[top, 1]
    pitch = readout.read_pitch
    multiply(
        memory.states, layout[top, 2] + new0 * padded, identity, ZERO, count, padded,
        readout.state, ZERO, size, pitch, readout.read_bias, ZERO, ZERO, squashed, ZERO, pitch,
    )  # fmt: skip
    if attention.attends:
        multiply(
            memory.contexts, new0 * attention.context_pitch, identity, ZERO, count, attention.context_pitch,
            readout.context, ZERO, attention.context_size, pitch, squashed, ZERO, pitch, squashed, ZERO, pitch,
        )  # fmt: skip
    multiply(
        x, ZERO, x_rows, ZERO, count, readout.input_size, readout.given, ZERO, readout.input_size, pitch,
        squashed, ZERO, pitch, squashed, ZERO, pitch,
    )  # fmt: skip
    squash(squashed, ZERO, count * pitch)


@kernel
def _outputs(readout, squashed, first, count, identity, out):
    """Raw outputs of rows first to first + count."""
    multiply(
        squashed, first * readout.read_pitch, identity, ZERO, count, readout.read_pitch,
        readout.out, ZERO, readout.read_size, readout.out_pitch,
        readout.out_bias, ZERO, ZERO, out, ZERO, readout.out_pitch,
    )  # fmt: skip


@kernel
def _log_denominator(logits, first, n_outputs, padded, lane):
    """Logarithm of the sum of exp of a row. What pads it to whole vectors is overwritten."""
    n_lanes = lanes(logits)
    for k in range(first + n_outputs, first + padded):
        logits[k] = -np.inf
    maxima = load(logits, first)
    for k in range(first + n_lanes, first + padded, n_lanes):
        y = load(logits, k)
        maxima = where_positive(y - maxima, y, maxima)
    store(lane, 0, maxima)
    largest = lane[0]
    for i in range(1, n_lanes):
        largest = max(largest, lane[i])
    sums = zeros_like(maxima)
    for k in range(first, first + padded, n_lanes):
        sums = sums + exp(load(logits, k) - largest)
    store(lane, 0, sums)
    total = 0.0
    for i in range(n_lanes):
        total += np.float64(lane[i])
    return np.float64(largest) + math.log(total)


@kernel
def _best(logits, first, n_outputs, k, scores, ids, at):
    """The k largest of a row, largest first, of equals the first one; fewer are filled up with minus infinity."""
    for j in range(k):
        scores[at + j] = -np.inf
        ids[at + j] = -1
    for i in range(n_outputs):
        y = np.float64(logits[first + i])
        if y > scores[at + k - 1]:
            j = k - 1
            while j > 0 and y > scores[at + j - 1]:
                scores[at + j] = scores[at + j - 1]
                ids[at + j] = ids[at + j - 1]
                j -= 1
            scores[at + j] = y
            ids[at + j] = i


@kernel
def _begin(rows, memory, previous, firsts, lasts, first_id):
    """A row for every source: its first input, its states, and what it reads."""
    for n in range(len(firsts)):
        rows.tokens[n] = first_id
        rows.sources[n] = n
        previous[n] = n
        memory.firsts[n] = firsts[n]
        memory.lasts[n] = lasts[n]


@inline
def _go_on(rows, memory, previous, firsts, lasts, new_row, row, token, source):
    """The next step's row `new_row` comes from row `row` of the states, with an input. Rows before are read no more."""
    rows.tokens[new_row] = token
    rows.sources[new_row] = source
    previous[new_row] = row
    memory.firsts[new_row] = firsts[source]
    memory.lasts[new_row] = lasts[source]


@inline
def _look(attention, memory, row, n_read, target):
    """target[j] = what the row looked at of source row j, the mean over heads."""
    n_heads, longest = attention.n_heads, attention.longest
    for j in range(n_read):
        total = np.float64(0.0)
        for head in range(n_heads):
            total += np.float64(memory.weights[(row * n_heads + head) * longest + j])
        target[j] = total / n_heads


@kernel
def _insert(
    source, row, length, likelihood, score, n_best, n_found, n_read, history, history_weights, found_tokens,
    found_lengths, found_scores, found_likelihoods, attention_out,
):  # fmt: skip
    """Enter the hypothesis that ended after `length` tokens in a row among the best of its source, if it is one."""
    keeps_attention = attention_out.shape[0] > 0
    slot = n_found[source]
    while slot > 0 and score > found_scores[source, slot - 1]:
        slot -= 1
    if slot == n_best:
        return
    n_found[source] = min(n_found[source] + 1, n_best)
    for j in range(n_found[source] - 1, slot, -1):
        found_scores[source, j] = found_scores[source, j - 1]
        found_likelihoods[source, j] = found_likelihoods[source, j - 1]
        moved = found_lengths[source, j - 1]
        found_lengths[source, j] = moved
        # Element by element: Numba would copy a slice of the same array to new memory first.
        for s in range(moved):
            found_tokens[source, j, s] = found_tokens[source, j - 1, s]
            if keeps_attention:
                at = source * n_best + j
                for k in range(attention_out.shape[2]):
                    attention_out[at, s, k] = attention_out[at - 1, s, k]
    found_scores[source, slot] = score
    found_likelihoods[source, slot] = likelihood
    found_lengths[source, slot] = length
    for s in range(length - 1, -1, -1):
        found_tokens[source, slot, s] = history[0, s, row]
        row = history[1, s, row]
        if keeps_attention:
            for j in range(n_read):
                attention_out[source * n_best + slot, s, j] = history_weights[s, row, j]


def _search(
    attention, layout, panels, memory, readout, table, previous, rows, squashed, logits, identity, lane, firsts, lasts,
    most, width, n_best, exponent, coverage_weight, forbidden, end_id, found_tokens, found_lengths, found_scores,
    found_likelihoods, attention_out, history, history_weights,
):  # fmt: skip
    """Beam search from every source.

    Of all continuations of its hypotheses a source keeps the `width` most probable ones that go on; those that end
    count if they are among the `width` most probable of all. A source is done when `width` hypotheses have ended, or
    when none that goes on can still get among the `n_best`. After `most` tokens only the end can follow. What has ended
    is ranked by log-likelihood / (tokens + 1) ** exponent + coverage_weight * sum_j log(min(1, a_j)), where a_j is the
    attention that source row j got in all steps together.

    ================  ==========================================  ======================================================
    table             (n_ids, input_size)                         vectors of the ids
    forbidden         int64                                       ids that are never written
    found_...         (n_sources, n_best[, longest_target])       tokens int64, lengths int64, the others float64
    history           int64 (2, longest_target + 1, max_rows)     scratch
    history_weights   float64 (steps, max_rows, longest source)   scratch; one step for no attention_out, else all
    ================  ==========================================  ======================================================
    """
    n_sources = len(firsts)
    max_rows = memory.total // 2
    n_outputs, out_pitch = readout.n_outputs, readout.out_pitch
    unit = len(logits) // out_pitch
    longest = attention.longest
    keeps_attention = attention.attends and attention_out.shape[0] > 0
    covers = attention.attends and coverage_weight > 0
    k = min(width + 1, n_outputs)
    source_of, new_source_of = rows.sources, rows.new_sources
    likelihoods, new_likelihoods = rows.likelihoods, rows.new_likelihoods
    scores, ids, coverage, place = rows.scores, rows.ids, rows.coverage, rows.place
    n_ended, n_found = rows.n_ended, rows.n_found
    _begin(rows, memory, previous, firsts, lasts, end_id)
    for n in range(n_sources):
        likelihoods[n] = 0.0
        n_ended[n] = 0
        n_found[n] = 0
        if covers:
            for j in range(longest):
                coverage[0, n, j] = 0.0
        for j in range(n_best):
            found_lengths[n, j] = -1
            found_scores[n, j] = -np.inf
            found_likelihoods[n, j] = -np.inf
    count = n_sources
    half = 0
    t = 0
    while count > 0:
        new0 = (1 - half) * max_rows
        one_step(
            attention, layout, panels, memory, readout, table, rows.tokens, previous, new0, count, identity, lane,
            squashed,
        )  # fmt: skip
        for first in range(0, count, unit):
            n_rows = min(unit, count - first)
            _outputs(readout, squashed, first, n_rows, identity, logits)
            for i in range(n_rows):
                row = first + i
                shift = _log_denominator(logits, i * out_pitch, n_outputs, out_pitch, lane)
                if t == most[source_of[row]]:
                    for j in range(k):
                        scores[row * k + j] = -np.inf
                        ids[row * k + j] = -1
                    scores[row * k] = np.float64(logits[i * out_pitch + end_id])
                    ids[row * k] = end_id
                else:
                    for j in range(len(forbidden)):
                        logits[i * out_pitch + forbidden[j]] = -np.inf
                    _best(logits, i * out_pitch, n_outputs, k, scores, ids, row * k)
                for j in range(k):
                    scores[row * k + j] += likelihoods[row] - shift
        if covers or keeps_attention:
            step = t if keeps_attention else 0
            for row in range(count):
                n_read = memory.lasts[row] - memory.firsts[row]
                _look(attention, memory, row, n_read, history_weights[step, row])
                if covers:
                    for j in range(n_read):
                        coverage[half, row, j] += history_weights[step, row, j]
        # From here on rows are those of the next step; `row` is one of this step.
        new_count = 0
        begin = 0
        while begin < count:
            source = source_of[begin]
            end = begin
            while end < count and source_of[end] == source:
                end += 1
            for j in range(end - begin):
                place[j] = 0
            new_begin = new_count
            rank = 0
            while rank < width or new_count - new_begin < width:
                best_row, best_score = -1, -np.inf
                for row in range(begin, end):
                    if place[row - begin] < k and scores[row * k + place[row - begin]] > best_score:
                        best_row, best_score = row, scores[row * k + place[row - begin]]
                if best_row < 0:
                    break
                token = ids[best_row * k + place[best_row - begin]]
                place[best_row - begin] += 1
                if token != end_id:
                    if new_count - new_begin < width:
                        history[0, t, new_count] = token
                        history[1, t, new_count] = best_row
                        new_likelihoods[new_count] = best_score
                        new_source_of[new_count] = source
                        new_count += 1
                elif rank < width:
                    n_ended[source] += 1
                    score = best_score / (t + 1.0) ** exponent
                    if covers:
                        for j in range(lasts[source] - firsts[source]):
                            covered = min(max(coverage[half, best_row, j], 1e-12), 1.0)
                            score += coverage_weight * math.log(covered)
                    _insert(
                        source, best_row, t, best_score, score, n_best, n_found, lasts[source] - firsts[source],
                        history, history_weights, found_tokens, found_lengths, found_scores, found_likelihoods,
                        attention_out,
                    )  # fmt: skip
                rank += 1
            done = n_ended[source] >= width
            if n_found[source] == n_best and new_count > new_begin:
                # The most probable one that goes on can only lose, and its length is limited.
                bound = new_likelihoods[new_begin] / (most[source] + 1.0) ** exponent
                done = done or bound <= found_scores[source, n_best - 1]
            if done:
                new_count = new_begin
            begin = end
        for row in range(new_count):
            before = history[1, t, row]
            token, source = history[0, t, row], new_source_of[row]
            _go_on(rows, memory, previous, firsts, lasts, row, new0 + before, token, source)
            likelihoods[row] = new_likelihoods[row]
            if covers:
                for j in range(longest):
                    coverage[1 - half, row, j] = coverage[half, before, j]
        count = new_count
        half = 1 - half
        t += 1


def _draw(
    attention, layout, panels, memory, readout, table, previous, rows, squashed, logits, identity, lane, firsts, lasts,
    most, temperature, top_k, top_p, uniforms, given, forbidden, end_id, found_tokens, found_lengths, found_likelihoods,
    attention_out, heap, row_logits, shares,
):  # fmt: skip
    """One hypothesis for every source, drawn token by token as `choose` does.

    uniforms: float64 (n_sources, at least longest_target). given: int64 (n_sources, longest_target), or (0, 0) for
    none: its ids are taken instead of drawn ones where they are not negative, and no target ends before `most` tokens.
    found_tokens (n_sources, longest_target), found_lengths, found_likelihoods: written. heap: int64 (n_ids,),
    row_logits, shares: float64 (n_ids,), scratch.
    """
    n_sources = len(firsts)
    max_rows = memory.total // 2
    n_outputs, out_pitch = readout.n_outputs, readout.out_pitch
    unit = len(logits) // out_pitch
    keeps_attention = attention.attends and attention_out.shape[0] > 0
    follows = given.shape[0] > 0
    source_of = rows.sources
    found_likelihoods[:] = 0.0
    _begin(rows, memory, previous, firsts, lasts, end_id)
    count = n_sources
    half = 0
    t = 0
    while count > 0:
        new0 = (1 - half) * max_rows
        one_step(
            attention, layout, panels, memory, readout, table, rows.tokens, previous, new0, count, identity, lane,
            squashed,
        )  # fmt: skip
        new_count = 0
        for first in range(0, count, unit):
            n_rows = min(unit, count - first)
            _outputs(readout, squashed, first, n_rows, identity, logits)
            for i in range(n_rows):
                row = first + i
                source = source_of[row]
                shift = _log_denominator(logits, i * out_pitch, n_outputs, out_pitch, lane)
                ends = t == most[source]
                token = end_id
                if not ends:
                    if follows and given[source, t] >= 0:
                        token = given[source, t]
                    else:
                        for j in range(n_outputs):
                            row_logits[j] = logits[i * out_pitch + j]
                        for j in range(len(forbidden)):
                            row_logits[forbidden[j]] = -np.inf
                        token = choose(row_logits, temperature, top_k, top_p, uniforms[source, t], heap, shares)
                    ends = token == end_id and not follows
                found_likelihoods[source] += np.float64(logits[i * out_pitch + token]) - shift
                if ends:
                    found_lengths[source] = t
                    continue
                found_tokens[source, t] = token
                if keeps_attention:
                    _look(attention, memory, row, lasts[source] - firsts[source], attention_out[source, t])
                _go_on(rows, memory, previous, firsts, lasts, new_count, new0 + row, token, source)
                new_count += 1
        count = new_count
        half = 1 - half
        t += 1


def _unroll(
    attention, layout, panels, memory, readout, x, previous, rows, squashed, out, identity, lane, firsts, lasts, most,
    starts, given, takes_given, found, attention_out,
):  # fmt: skip
    """Numbers: every output is the next input. Source n has `most[n]` steps, written to rows starts[n], ... of `found`.

    x (max_rows, input_size): zero, scratch. given, of the shape of found (n_rows, n_outputs), has the next inputs after
    rows where takes_given (n_rows,), uint8, is not 0. attention_out (n_rows, longest source), or empty.
    """
    n_sources = len(firsts)
    max_rows = memory.total // 2
    size, out_pitch = readout.n_outputs, readout.out_pitch
    unit = len(out) // out_pitch
    keeps_attention = attention.attends and attention_out.shape[0] > 0
    source_of = rows.sources
    count = 0
    for n in range(n_sources):
        if most[n] > 0:
            _go_on(rows, memory, previous, firsts, lasts, count, n, ZERO, n)
            count += 1
    half = 0
    t = 0
    while count > 0:
        new0 = (1 - half) * max_rows
        one_step(
            attention, layout, panels, memory, readout, x, identity, previous, new0, count, identity, lane, squashed
        )
        new_count = 0
        for first in range(0, count, unit):
            n_rows = min(unit, count - first)
            _outputs(readout, squashed, first, n_rows, identity, out)
            for i in range(n_rows):
                row = first + i
                source = source_of[row]
                target = starts[source] + t
                for j in range(size):
                    found[target, j] = out[i * out_pitch + j]
                if keeps_attention:
                    _look(attention, memory, row, lasts[source] - firsts[source], attention_out[target])
                if t + 1 < most[source]:
                    for j in range(size):
                        x[new_count * size + j] = given[target, j] if takes_given[target] else found[target, j]
                    _go_on(rows, memory, previous, firsts, lasts, new_count, new0 + row, ZERO, source)
                    new_count += 1
        count = new_count
        half = 1 - half
        t += 1


def _compile(cell: Cell) -> SimpleNamespace:
    """The loops for one cell."""
    names = {"N_SLOTS": cell.n_slots, "N_INPUT_GATES": len(cell.input_gates), "advance": DECODER[cell.name].advance}
    step = specialize(_one_step, f"one_step_decoding_{cell.name}", **names)
    return SimpleNamespace(
        search=specialize(_search, f"search_{cell.name}", one_step=step),
        draw=specialize(_draw, f"draw_{cell.name}", one_step=step),
        unroll=specialize(_unroll, f"unroll_{cell.name}", one_step=step),
    )


# The compiled loops of every cell, by the cell's name. Compilation happens when one is first called.
DECODING = {name: _compile(cell) for name, cell in CELLS.items()}
