"""Linear-chain conditional random fields on the device: likelihood, marginals and best tags of whole sequences.

Rows are packed: row ``offsets[t] + n`` is step t of the sequence at position n, which has ``steps[n]`` of them. A block
works on a sequence, a thread on some of its tags; all threads of a block meet at every time step. Everything is
computed with logarithms, in float64, as `numrnn.kernels.cpu.crf.logarithmic` does, so that no score is too large or too
small. Sums are in an order that depends on nothing but the sizes.

===============  ===========================  =========================================================================
argument         type and shape               meaning
===============  ===========================  =========================================================================
logits           float (n_rows * n_tags,)     read
parameters       float, flat                  with the transitions (n_tags, n_tags) from element `transitions` on, then
                                              the scores of the first and of the last tag (n_tags,)
rows             int64 (n_rows,)              where the answer of each packed row is
targets          int64                        tags, by answer; of length 0: none
weights          float64                      by answer, one for all rows of a sequence; of length 0: ones
log_alpha        float64 (n_rows * n_tags,)   of every step, less the largest of the step before
===============  ===========================  =========================================================================

A sequence of weight zero counts for nothing, whatever its logits are.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
from __future__ import annotations

import math

import numpy as np
from numba import cuda

from numrnn.kernels.cuda.grids import SIMULATED, block_grid, device_function, kernel, vector_grid

__all__ = ["add_counts", "best_tags", "count_blocks", "log_likelihood", "marginals"]

_NOTHING = -math.inf
# Bytes of the sums that blocks have of their own, before these are added up.
_COUNT_BYTES = 2**26
_MOST_BLOCKS = 2 if SIMULATED else 512


def _threads(n_tags: int) -> int:
    """Of a block: whole warps, of which pairs of tags keep every thread busy."""
    return 3 if SIMULATED else 32 * min(max(-(-n_tags * n_tags // 64), 1), 8)


def count_blocks(n_sequences: int, n_tags: int) -> int:
    """Blocks that count transitions, each for itself."""
    return max(1, min(n_sequences, _MOST_BLOCKS, _COUNT_BYTES // (8 * n_tags * (n_tags + 2))))


@device_function
def _largest(values, at, count):
    """The largest of some numbers; 0 if all of them are -inf, from which nothing can be subtracted."""
    largest = values[at]
    for i in range(1, count):
        largest = max(largest, values[at + i])
    return largest if largest != _NOTHING else 0.0


@device_function
def _weight_of(weights, answer):
    return weights[answer] if weights.size > 0 else 1.0


@kernel
def _log_likelihood(
    logits, n_tags, offsets, steps, n_sequences, parameters, transitions, rows, targets, weights, log_alpha, losses,
    first_loss,
):  # fmt: skip
    score = cuda.shared.array(1, "float64")
    me, width = cuda.threadIdx.x, cuda.blockDim.x
    start = transitions + n_tags * n_tags
    end = start + n_tags
    for n in range(cuda.blockIdx.x, n_sequences, cuda.gridDim.x):
        count = steps[n]
        weight = _weight_of(weights, rows[n]) if count > 0 and rows.size > 0 else 1.0
        if count > 0 and weight != 0:
            if me == 0:
                score[0] = 0.0
            cuda.syncthreads()
            shift = largest = 0.0
            row = before = tag_before = tag = -1
            for t in range(count):
                row = offsets[t] + n
                if targets.size > 0:
                    tag = targets[rows[row]]
                for k in range(me, n_tags, width):
                    logit = np.float64(logits[row * n_tags + k])
                    if t == 0:
                        value = np.float64(parameters[start + k])
                    else:
                        value = _NOTHING
                        for j in range(n_tags):
                            term = log_alpha[before * n_tags + j] - largest + parameters[transitions + j * n_tags + k]
                            value = max(value, term)
                        if value != _NOTHING:
                            total = 0.0
                            for j in range(n_tags):
                                term = (
                                    log_alpha[before * n_tags + j] - largest + parameters[transitions + j * n_tags + k]
                                )
                                total += math.exp(term - value)
                            value += math.log(total)
                    log_alpha[row * n_tags + k] = value + logit
                    if k == tag:
                        step = parameters[start + k] if t == 0 else parameters[transitions + tag_before * n_tags + k]
                        score[0] += logit + step
                cuda.syncthreads()
                largest = _largest(log_alpha, row * n_tags, n_tags)
                shift += largest
                before, tag_before = row, tag
            if me == 0 and tag >= 0:
                top = _NOTHING
                for k in range(n_tags):
                    top = max(top, log_alpha[row * n_tags + k] - largest + parameters[end + k])
                total = 0.0
                for k in range(n_tags):
                    total += math.exp(log_alpha[row * n_tags + k] - largest + parameters[end + k] - top)
                log_z = shift + top + math.log(total)
                losses[first_loss + n] = weight * (log_z - (score[0] + parameters[end + tag]))
            cuda.syncthreads()


def log_likelihood(
    queue, logits, n_tags, offsets, steps, n_sequences, parameters, transitions, rows, targets, weights, log_alpha,
    losses, first_loss,
):  # fmt: skip
    """losses[first_loss + n] = weight * -log P of the sequence at position n, if there are targets; log_alpha."""
    if n_sequences:
        _log_likelihood[block_grid(n_sequences)[0], _threads(n_tags), queue](
            logits, n_tags, offsets, steps, n_sequences, parameters, transitions, rows, targets, weights, log_alpha,
            losses, first_loss,
        )  # fmt: skip


@kernel
def _marginals(
    logits, n_tags, offsets, steps, n_sequences, parameters, transitions, rows, targets, weights, scale, log_alpha,
    log_beta, d_logits, counts,
):  # fmt: skip
    me, width = cuda.threadIdx.x, cuda.blockDim.x
    n_pairs = n_tags * n_tags
    end = transitions + n_pairs + n_tags
    # What this block alone adds up: transitions, first and last tags.
    own = cuda.blockIdx.x * (n_pairs + 2 * n_tags)
    if counts.size > 0:
        for i in range(me, n_pairs + 2 * n_tags, width):
            counts[own + i] = 0.0
    scratch = cuda.blockIdx.x * 2 * n_tags
    for n in range(cuda.blockIdx.x, n_sequences, cuda.gridDim.x):
        count = steps[n]
        weight = _weight_of(weights, rows[n]) if count > 0 and rows.size > 0 else 1.0
        factor = weight * scale
        if weight == 0:
            for t in range(count):
                for k in range(me, n_tags, width):
                    d_logits[(offsets[t] + n) * n_tags + k] = 0
            count = 0
        largest = 0.0
        tag = tag_after = after_row = -1
        for back in range(count):
            t = count - 1 - back
            row = offsets[t] + n
            now, after = scratch + t % 2 * n_tags, scratch + (t + 1) % 2 * n_tags
            if targets.size > 0:
                tag = targets[rows[row]]
            for j in range(me, n_tags, width):
                if back == 0:
                    value = np.float64(parameters[end + j])
                else:
                    value = _NOTHING
                    for k in range(n_tags):
                        term = log_beta[after + k] - largest + logits[after_row * n_tags + k]
                        value = max(value, term + parameters[transitions + j * n_tags + k])
                    if value != _NOTHING:
                        total = 0.0
                        for k in range(n_tags):
                            term = log_beta[after + k] - largest + logits[after_row * n_tags + k]
                            total += math.exp(term + parameters[transitions + j * n_tags + k] - value)
                        value += math.log(total)
                log_beta[now + j] = value
            cuda.syncthreads()
            top = _NOTHING
            for k in range(n_tags):
                top = max(top, log_alpha[row * n_tags + k] + log_beta[now + k])
            total = 0.0
            for k in range(n_tags):
                total += math.exp(log_alpha[row * n_tags + k] + log_beta[now + k] - top)
            norm = top + math.log(total)
            for k in range(me, n_tags, width):
                marginal = factor * math.exp(log_alpha[row * n_tags + k] + log_beta[now + k] - norm)
                if k == tag:
                    marginal -= factor
                d_logits[row * n_tags + k] = marginal
                if counts.size > 0 and t == 0:
                    counts[own + n_pairs + k] += marginal
                if counts.size > 0 and back == 0:
                    counts[own + n_pairs + n_tags + k] += marginal
            if counts.size > 0 and back > 0:
                for pair in range(me, n_pairs, width):
                    j, k = pair // n_tags, pair % n_tags
                    term = log_beta[after + k] - largest + logits[after_row * n_tags + k]
                    score = log_alpha[row * n_tags + j] + (term + parameters[transitions + pair])
                    expected = factor * math.exp(score - norm)
                    if j == tag and k == tag_after:
                        expected -= factor
                    counts[own + pair] += expected
            cuda.syncthreads()
            largest = _largest(log_beta, now, n_tags)
            after_row, tag_after = row, tag


def marginals(
    queue, logits, n_tags, offsets, steps, n_sequences, parameters, transitions, rows, targets, weights, scale,
    log_alpha, log_beta, d_logits, counts, n_blocks,
):  # fmt: skip
    """d_logits = scale * weight * (marginal - [tag is the target]), from what `log_likelihood` has left in log_alpha.

    log_beta: float64 (n_blocks * 2 * n_tags,), scratch. counts: float64 (n_blocks * n_tags * (n_tags + 2),), written:
    every block's sums for transitions, first and last tags; or of length 0.
    """
    if n_sequences:
        _marginals[n_blocks, _threads(n_tags), queue](
            logits, n_tags, offsets, steps, n_sequences, parameters, transitions, rows, targets, weights, scale,
            log_alpha, log_beta, d_logits, counts,
        )  # fmt: skip


@kernel
def _add_counts(counts, n_blocks, size, gradient, first):
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        total = 0.0
        for block in range(n_blocks):
            total += counts[block * size + i]
        gradient[first + i] += total


def add_counts(queue, counts, n_blocks, n_tags, gradient, first):
    """Add the sums of all blocks to the gradient of transitions, first and last tags, from element `first` on."""
    size = n_tags * (n_tags + 2)
    _add_counts[*vector_grid(size), queue](counts, n_blocks, size, gradient, first)


@kernel
def _best_tags(logits, n_tags, offsets, steps, n_sequences, parameters, transitions, scores, origins, tags):
    me, width = cuda.threadIdx.x, cuda.blockDim.x
    start = transitions + n_tags * n_tags
    end = start + n_tags
    for n in range(cuda.blockIdx.x, n_sequences, cuda.gridDim.x):
        count = steps[n]
        row = before = 0
        for t in range(count):
            row = offsets[t] + n
            for k in range(me, n_tags, width):
                best, origin = np.float64(parameters[start + k]), 0
                if t > 0:
                    best = _NOTHING
                    for j in range(n_tags):
                        value = scores[before * n_tags + j] + parameters[transitions + j * n_tags + k]
                        if value > best:
                            best, origin = value, j
                scores[row * n_tags + k] = best + logits[row * n_tags + k]
                origins[row * n_tags + k] = origin
            cuda.syncthreads()
            before = row
        if me == 0 and count > 0:
            best, tag = _NOTHING, 0
            for k in range(n_tags):
                value = scores[row * n_tags + k] + parameters[end + k]
                if value > best:
                    best, tag = value, k
            for back in range(count):
                row = offsets[count - 1 - back] + n
                tags[row] = tag
                tag = origins[row * n_tags + tag]


def best_tags(queue, logits, n_tags, offsets, steps, n_sequences, parameters, transitions, scores, origins, tags):
    """The tags of highest score of every sequence (Viterbi 1967); of equal ones the lowest, the last step first.

    scores float64 and origins int32 (n_rows * n_tags,) are scratch; tags int64 (n_rows,) is written in packed order.
    """
    if n_sequences:
        _best_tags[block_grid(n_sequences)[0], _threads(n_tags), queue](
            logits, n_tags, offsets, steps, n_sequences, parameters, transitions, scores, origins, tags
        )


def examples():
    """The kernels of this file with the types of their arguments."""
    i, d = "i8[::1]", "f8[::1]"
    for f in ("f4", "f8"):
        v = f"{f}[::1]"
        sequences = (v, "i8", i, i, "i8", v, "i8")
        yield f"likelihood of tags {f}", _log_likelihood, (*sequences, i, i, d, d, d, "i8")
        yield f"marginals of tags {f}", _marginals, (*sequences, i, i, d, "f8", d, d, v, d)
        yield f"counts of tags {f}", _add_counts, (d, "i8", "i8", v, "i8")
        yield f"best tags {f}", _best_tags, (*sequences, d, "i4[::1]", i)
