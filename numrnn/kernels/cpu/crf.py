"""Linear-chain conditional random field: sums and maxima over all sequences of tags.

The score of tags y_1, ..., y_T is::

    start[y_1] + sum over t of logits[t, y_t] + sum over t > 1 of transitions[y_(t-1), y_t] + end[y_T]

`scaled_forward` and `scaled_backward` compute with probabilities instead of their logarithms, scaled to sum to one at
every step (Rabiner 1989): a step of all sequences is one matrix product. Nothing can underflow while all scores of a
step lie within a range that float64 has room for, which `widest_ranges` finds out; other sequences, forbidden
transitions of -inf included, go through `logarithmic`. All is computed in float64, whatever the type of the logits.

Rows of `transitions` are the tag before, columns the tag after. Vectors of tags have a pitch of `columns`, a multiple
of a vector's lanes; what lies beyond the tags is zero.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from numrnn.kernels.activations import exp
from numrnn.kernels.cpu.matmul import multiply
from numrnn.kernels.jit import inline, kernel
from numrnn.kernels.simd import clamp, fma, lanes, load, minimum, store, zeros_like

__all__ = ["best_tags", "logarithmic", "path_scores", "scaled_backward", "scaled_forward", "widest_ranges"]

_INFINITY = np.inf
# Not a literal: Numba would compile the product once more for every argument that is one.
_ZERO = np.int64(0)
# A product of scales is turned into a logarithm before it leaves this range; one factor more cannot underflow.
_SMALL, _LARGE = 1e-30, 1e30


@kernel
def widest_ranges(logits, starts, lengths, chosen, lane, ranges):
    """Largest difference of two logits of the chosen sequences; NaN if one is not finite.

    lane: float (lanes,), scratch. (The range of every step by itself would do, but takes longer to find.)
    """
    n_tags = logits.shape[1]
    flat = logits.reshape(logits.size)
    n_lanes = lanes(flat)
    for i in chosen:
        begin, count = starts[i] * n_tags, lengths[i] * n_tags
        smallest = largest = np.float64(flat[begin])
        poison = 0.0
        whole = count - count % n_lanes
        if whole > 0:
            low = high = load(flat, begin)
            wrong = zeros_like(low)
            for j in range(begin, begin + whole, n_lanes):
                x = load(flat, j)
                low, high, wrong = minimum(x, low), clamp(x, high, _INFINITY), fma(x, wrong, wrong)
            store(lane, 0, low)
            for j in range(n_lanes):
                smallest = min(smallest, np.float64(lane[j]))
            store(lane, 0, high)
            for j in range(n_lanes):
                largest = max(largest, np.float64(lane[j]))
            store(lane, 0, wrong)
            for j in range(n_lanes):
                poison += lane[j]
        for j in range(begin + whole, begin + count):
            value = np.float64(flat[j])
            smallest, largest, poison = min(smallest, value), max(largest, value), poison + value * 0.0
        ranges[i] = largest - smallest + poison


@kernel
def path_scores(
    logits, starts, lengths, chosen, targets, transitions, start, end, factors, scores, d_start, d_end, d_transitions
):
    """scores[i] = the score of the target tags of the chosen sequences, each of at least one step.

    A sequence's factor is subtracted from the gradients at the tags and transitions of its path. Raises IndexError for
    a tag outside 0, ..., n_tags - 1.
    """
    n_tags = logits.shape[1]
    for i in chosen:
        first, last, before = starts[i], starts[i] + lengths[i] - 1, -1
        score = 0.0
        for row in range(first, last + 1):
            tag = targets[row]
            if tag < 0 or tag >= n_tags:
                raise IndexError("a tag is negative or not below the number of tags")
            score += np.float64(logits[row, tag])
            if row > first:
                score += transitions[before, tag]
                d_transitions[before, tag] -= factors[i]
            before = tag
        d_start[targets[first]] -= factors[i]
        d_end[before] -= factors[i]
        scores[i] = score + start[targets[first]] + end[before]


# ---------------------------------------------------------------------------------------------- scaled probabilities
@kernel
def scaled_forward(
    logits, rows, offsets, start, end, panels, n_tags, columns, identity, zeros, lane, alpha, emission, inverse, ends,
    log_z,
):  # fmt: skip
    """Probabilities of the tags of each step, given the logits up to it.

    ===========  =======================  ===================================================================
    argument     type and shape           meaning
    ===========  =======================  ===================================================================
    logits       float (n, n_tags)        read
    rows         int64 (n_rows,)          row of the logits of each packed row
    offsets      int64 (n_timesteps + 1,) packed rows of each time step, as in `Packing`
    start, end   float64 (columns,)       exponentials
    panels       float64                  exponentials of the transitions, as `pack_rows` writes them
    zeros        float64 (columns,)       zeros
    lane         float64 (lanes,)         scratch
    alpha        float64 (n_rows, ...)    written: probabilities
    emission     float64 (n_rows, ...)    written: exp(logit - the largest of the step)
    inverse      float64 (n_rows,)        written: one over the scale of each step
    ends         float64 (n_sequences,)   written: one over the sum of alpha * end at the last step
    log_z        float64 (n_sequences,)   written: logarithm of the sum over all tag sequences
    ===========  =======================  ===================================================================

    The exponentials of start, end and transitions may be taken of differences from their largest; then log_z lacks
    these.
    """
    n_lanes = lanes(alpha)
    n_timesteps = len(offsets) - 1
    # Until a sequence has ended, `ends` is the product of its scales that is not yet in log_z.
    for n in range(len(ends)):
        log_z[n] = 0.0
        ends[n] = 1.0
    for t in range(n_timesteps):
        first = offsets[t]
        alive = offsets[t + 1] - first
        following = offsets[t + 2] - offsets[t + 1] if t + 1 < n_timesteps else 0
        if t > 0:
            before = offsets[t - 1] * columns
            multiply(
                alpha, before, identity, _ZERO, alive, columns, panels, _ZERO, n_tags, columns,
                zeros, _ZERO, _ZERO, alpha, first * columns, columns,
            )  # fmt: skip
        for n in range(alive):
            at, row = (first + n) * columns, rows[first + n]
            own = emission[at : at + columns]
            for k in range(n_tags):
                own[k] = logits[row, k]
            for k in range(n_tags, columns):
                own[k] = logits[row, 0]
            high = load(own, 0)
            for k in range(n_lanes, columns, n_lanes):
                high = clamp(load(own, k), high, _INFINITY)
            store(lane, 0, high)
            largest = lane[0]
            for k in range(1, n_lanes):
                largest = max(largest, lane[k])
            total = zeros_like(high)
            for k in range(0, columns, n_lanes):
                e = exp(load(emission, at + k) - largest)
                store(emission, at + k, e)
                e = e * (load(start, k) if t == 0 else load(alpha, at + k))
                store(alpha, at + k, e)
                total = total + e
            scale = _sum(total, lane)
            factor = 1.0 / scale
            for k in range(0, columns, n_lanes):
                store(alpha, at + k, load(alpha, at + k) * factor)
            inverse[first + n] = factor
            product = ends[n] * scale
            if product < _SMALL or product > _LARGE:
                log_z[n] += math.log(product)
                product = 1.0
            log_z[n] += largest
            if n >= following:
                total = zeros_like(load(lane, 0))
                for k in range(0, columns, n_lanes):
                    total = total + load(alpha, at + k) * load(end, k)
                last = _sum(total, lane)
                log_z[n] += math.log(product) + math.log(last)
                product = 1.0 / last
            ends[n] = product


@inline
def _sum(vector, lane):
    """Sum of the lanes, in their order."""
    store(lane, 0, vector)
    total = lane[0]
    for i in range(1, len(lane)):
        total += lane[i]
    return total


@kernel
def scaled_backward(
    rows, offsets, end, panels, n_tags, columns, identity, zeros, alpha, emission, inverse, ends, weights, targets,
    beta, marginals, d_start, d_end,
):  # fmt: skip
    """Weighted marginals of every step, less the weight at its target.

    ===========  ===========================  ===============================================================
    argument     type and shape               meaning
    ===========  ===========================  ===============================================================
    panels       float64                      exponentials of the transitions, transposed
    alpha, inverse, ends                      from `scaled_forward`; read
    emission     float64 (n_rows, ...)        from `scaled_forward`; overwritten, so that the weighted expected
                                              number of transitions j -> k between a step and the one before is
                                              alpha[before, j] * exp(transitions[j, k]) * emission[step, k]
    weights      float64 (n_sequences,)       read
    targets      int64 (n,)                   tag to subtract in each row of the logits, or negative; read
    beta         float64 (n_sequences, ...)   scratch
    marginals    float (n, n_tags)            written, in the rows of the logits
    d_start      float64 (n_tags,)            added to: weighted marginals of the first step
    d_end        float64 (n_tags,)            added to: weighted marginals of the last step
    ===========  ===========================  ===============================================================
    """
    n_lanes = lanes(alpha)
    following = _ZERO
    for t in range(len(offsets) - 2, -1, -1):
        first = offsets[t]
        alive = offsets[t + 1] - first
        if following > 0:
            multiply(
                emission, offsets[t + 1] * columns, identity, _ZERO, following, columns, panels, _ZERO, n_tags, columns,
                zeros, _ZERO, _ZERO, beta, _ZERO, columns,
            )  # fmt: skip
        for n in range(alive):
            at, own, row = (first + n) * columns, n * columns, rows[first + n]
            if n >= following:
                factor = weights[n] * ends[n]
                for k in range(0, columns, n_lanes):
                    store(beta, own + k, load(end, k) * factor)
            factor = inverse[first + n]
            for k in range(0, columns, n_lanes):
                b = load(beta, own + k)
                store(emission, at + k, load(emission, at + k) * b * factor)
                store(beta, own + k, load(alpha, at + k) * b)
            marginal = beta[own : own + columns]
            if t == 0:
                for k in range(n_tags):
                    d_start[k] += marginal[k]
            if n >= following:
                for k in range(n_tags):
                    d_end[k] += marginal[k]
            target = targets[row]
            if target >= 0:
                marginal[target] -= weights[n]
            written = marginals[row]
            for k in range(n_tags):
                written[k] = marginal[k]
        following = alive


# ------------------------------------------------------------------------------------------------------- logarithms
@inline
def _log_sum(terms):
    """log(sum(exp(terms))); -inf if all of them are."""
    largest = terms[0]
    for i in range(1, len(terms)):
        largest = max(largest, terms[i])
    if largest == -_INFINITY:
        return largest
    total = 0.0
    for i in range(len(terms)):
        total += math.exp(terms[i] - largest)
    return largest + math.log(total)


@inline
def _subtract_largest(terms):
    """Subtract the largest, unless all are -inf, and return it."""
    largest = terms[0]
    for i in range(1, len(terms)):
        largest = max(largest, terms[i])
    if largest != -_INFINITY:
        for i in range(len(terms)):
            terms[i] -= largest
    return largest


@kernel
def logarithmic(
    logits, first, length, transitions, start, end, weight, targets, with_marginals,
    log_alpha, log_beta, terms, marginals, d_start, d_end, d_transitions,
):  # fmt: skip
    """The same for one sequence of at least one step, of logits and parameters of any size; returns log Z.

    transitions float64 (n_tags, n_tags), start and end float64 (n_tags,); log_alpha float64 (length, n_tags), log_beta
    (2, n_tags) and terms (n_tags,) are scratch. If `with_marginals`, the weighted marginals less the weight at the
    target are written to the rows of the logits, and the expected counts are added to the gradients.
    """
    n_tags = logits.shape[1]
    # Each step's logarithms are taken relative to their largest, so that those of long sequences keep their digits.
    shift = 0.0
    for t in range(length):
        for k in range(n_tags):
            if t == 0:
                log_alpha[t, k] = start[k] + logits[first, k]
            else:
                for j in range(n_tags):
                    terms[j] = log_alpha[t - 1, j] + transitions[j, k]
                log_alpha[t, k] = _log_sum(terms) + logits[first + t, k]
        shift += _subtract_largest(log_alpha[t])
    for k in range(n_tags):
        terms[k] = log_alpha[length - 1, k] + end[k]
    log_z = _log_sum(terms) + shift
    if not with_marginals:
        return log_z
    for t in range(length - 1, -1, -1):
        beta, after = log_beta[t % 2], log_beta[(t + 1) % 2]
        for j in range(n_tags):
            if t == length - 1:
                beta[j] = end[j]
            else:
                for k in range(n_tags):
                    terms[k] = transitions[j, k] + (logits[first + t + 1, k] + after[k])
                beta[j] = _log_sum(terms)
        for k in range(n_tags):
            terms[k] = log_alpha[t, k] + beta[k]
        norm = _log_sum(terms)
        for k in range(n_tags):
            marginal = weight * math.exp(terms[k] - norm)
            if t == 0:
                d_start[k] += marginal
            if t == length - 1:
                d_end[k] += marginal
            if targets[first + t] == k:
                marginal -= weight
            marginals[first + t, k] = marginal
        if t < length - 1:
            for j in range(n_tags):
                for k in range(n_tags):
                    score = log_alpha[t, j] + (transitions[j, k] + (logits[first + t + 1, k] + after[k]))
                    d_transitions[j, k] += weight * math.exp(score - norm)
        _subtract_largest(beta)
    return log_z


# ---------------------------------------------------------------------------------------------------------- decoding
@kernel
def best_tags(logits, starts, lengths, transitions, columns, start, end, scores, tags):
    """The tags of highest score of every sequence (Viterbi 1967), one after the other.

    Of equal ones the lowest numbers, the last step decided first. transitions float64 (n_tags * columns,), start and
    end float64 (columns,); scores float64 (longest * columns,) is scratch.
    """
    n_tags = logits.shape[1]
    n_lanes = lanes(scores)
    place = 0
    for i in range(len(starts)):
        for t in range(lengths[i]):
            at, before = t * columns, (t - 1) * columns
            for k in range(0, columns, n_lanes):
                best = load(start, k)
                if t > 0:
                    best = load(transitions, k) + scores[before]
                    for j in range(1, n_tags):
                        best = clamp(load(transitions, j * columns + k) + scores[before + j], best, _INFINITY)
                store(scores, at + k, best)
            for k in range(n_tags):
                scores[at + k] += np.float64(logits[starts[i] + t, k])
        for t in range(lengths[i] - 1, -1, -1):
            # Which tag a maximum came from is found again, for the chosen tag alone, rather than kept for all of them.
            last = t == lengths[i] - 1
            chosen, best = 0, -_INFINITY
            for j in range(n_tags):
                value = scores[t * columns + j]
                value += end[j] if last else transitions[j * columns + tags[place + t + 1]]
                if value > best:
                    chosen, best = j, value
            tags[place + t] = chosen
        place += lengths[i]
