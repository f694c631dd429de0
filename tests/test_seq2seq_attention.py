"""The kernels of the attention between decoder and encoder: reference, derivatives, PyTorch's multi-head attention."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from oracle.seq2seq import softmax
from seq2seq_problems import make_network

from numrnn.kernels.cpu.cross_attention import cross_attend, cross_attend_adjoint
from numrnn.kernels.simd import lane_count

interpreter = pytest.mark.interpreter
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


class Problem:
    """Decoder rows that read encoder rows: some, one, all, none."""

    def __init__(self, additive, n_heads, key_size, head_size, dtype, seed=0):
        rng = np.random.default_rng(seed)
        self.additive, self.n_heads, self.key_size, self.head_size = additive, n_heads, key_size, head_size
        self.dtype, self.lanes = np.dtype(dtype), lane_count(np.dtype(dtype))
        self.key_width = self.pad(key_size)
        self.value_pitch = self.pad(n_heads * head_size)
        self.firsts = np.array([0, 3, 4, 4, 0], dtype=np.int64)
        self.lasts = np.array([3, 4, 4, 25, 25], dtype=np.int64)
        self.longest, n_source, n_rows = 25, 25, 5
        self.scale = 1.0 if additive else 0.7
        self.keys = rng.normal(size=(n_source, n_heads, key_size))
        self.values = rng.normal(size=(n_source, n_heads, head_size))
        self.queries = rng.normal(size=(n_rows, n_heads, key_size))
        self.vector = rng.normal(size=key_size)
        self.d_attended = rng.normal(size=(n_rows, n_heads, head_size))

    def pad(self, size):
        return -(-size // self.lanes) * self.lanes

    def flat(self, array, width):
        """Padded with zeros, in one dimension."""
        padded = np.zeros((*array.shape[:-1], width), dtype=self.dtype)
        padded[..., : array.shape[-1]] = array
        return padded.reshape(-1)

    def head_by_head(self, array):
        return self.flat(array, self.key_width)

    def joined(self, array):
        return self.flat(array.reshape(len(array), -1), self.value_pitch)

    def inputs(self):
        return SimpleNamespace(
            keys=self.head_by_head(self.keys),
            values=self.joined(self.values),
            queries=self.head_by_head(self.queries),
            vector=self.head_by_head(self.vector),
        )

    def fixed(self):
        """What both kernels are told of the sizes."""
        return (
            self.firsts, self.lasts, 0, 5, self.n_heads, self.key_width, self.head_size, self.dtype.type(self.scale),
        )  # fmt: skip

    def forward(self):
        own = self.inputs()
        lane = np.empty(self.lanes, dtype=self.dtype)
        attended = np.full(5 * self.value_pitch, 9, dtype=self.dtype)
        weights = np.zeros(5 * self.n_heads * self.longest, dtype=self.dtype)
        cross_attend(
            self.additive, own.keys, own.values, self.value_pitch, own.vector, *self.fixed(), own.queries, 0, attended,
            0, weights, 0, self.longest, lane,
        )  # fmt: skip
        return attended.reshape(5, -1), weights.reshape(5, self.n_heads, self.longest)

    def backward(self, weights):
        own = self.inputs()
        lane = np.empty(self.lanes, dtype=self.dtype)
        found = SimpleNamespace(
            keys=np.zeros_like(own.keys),
            values=np.zeros_like(own.values),
            vectors=np.zeros(5 * self.key_width, dtype=self.dtype),
            queries=np.full_like(own.queries, 9),
        )
        cross_attend_adjoint(
            self.additive, own.keys, own.values, self.value_pitch, own.vector, *self.fixed(), own.queries, 0,
            self.joined(self.d_attended), 0, weights.reshape(-1), 0, self.longest, found.keys, found.values,
            found.vectors, found.queries, np.empty(self.longest, dtype=self.dtype), lane,
        )  # fmt: skip
        head_by_head = (-1, self.n_heads, self.key_width)
        return {
            "keys": found.keys.reshape(head_by_head)[..., : self.key_size],
            "values": found.values.reshape(-1, self.value_pitch)[:, : self.n_heads * self.head_size].reshape(
                self.values.shape
            ),
            "vector": found.vectors.reshape(5, -1)[:, : self.key_size].sum(axis=0),
            "queries": found.queries.reshape(head_by_head)[..., : self.key_size],
        }

    def reference(self):
        """Attended rows (5, n_heads, head_size) and weights, straight from the definition."""
        attended, weights = np.zeros((5, self.n_heads, self.head_size)), np.zeros((5, self.n_heads, self.longest))
        for i, (first, last) in enumerate(zip(self.firsts, self.lasts, strict=True)):
            for head in range(self.n_heads):
                keys, query = self.keys[first:last, head], self.queries[i, head]
                if last == first:
                    continue
                scores = np.tanh(keys + query) @ self.vector if self.additive else self.scale * keys @ query
                weights[i, head, : last - first] = softmax(scores)
                attended[i, head] = softmax(scores) @ self.values[first:last, head]
        return attended, weights


CASES = [(True, 1, 1, 1), (True, 1, 19, 33), (True, 1, 16, 16), (False, 1, 7, 5), (False, 3, 5, 11), (False, 2, 16, 16)]
every_case = pytest.mark.parametrize("case", CASES, ids=["-".join(map(str, case)) for case in CASES])


@interpreter
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_case
def test_equals_the_definition(case, dtype):
    problem = Problem(*case, dtype)
    attended, weights = problem.forward()
    wanted, wanted_weights = problem.reference()
    np.testing.assert_allclose(weights, wanted_weights, atol=TOLERANCE[dtype])
    joined = wanted.reshape(5, -1)
    np.testing.assert_allclose(attended[:, : joined.shape[1]], joined, atol=TOLERANCE[dtype])
    assert not attended[:, joined.shape[1] :].any()
    assert not attended[2].any()


@interpreter
@every_case
def test_derivatives(case):
    problem = Problem(*case, "float64")
    gradients = problem.backward(problem.forward()[1])
    rng = np.random.default_rng(1)
    for name, gradient in gradients.items():
        value = getattr(problem, name)
        direction = rng.normal(size=value.shape)
        totals = []
        for step in (1e-6, -1e-6):
            setattr(problem, name, value + step * direction)
            totals.append((problem.reference()[0] * problem.d_attended).sum())
        setattr(problem, name, value)
        numeric = (totals[0] - totals[1]) / 2e-6
        np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=1e-7, atol=1e-8, err_msg=name)


def test_large_scores_do_not_overflow_and_nan_is_seen():
    problem = Problem(False, 1, 4, 4, "float32")
    problem.keys *= 1e4
    attended, weights = problem.forward()
    assert np.isfinite(attended).all()
    np.testing.assert_allclose(weights.sum(axis=2)[:, 0], [1, 1, 0, 1, 1], rtol=1e-5)
    problem.keys[4] = np.nan
    attended, _ = problem.forward()
    assert np.isnan(attended[3, :4]).all()
    assert np.isfinite(attended[:3]).all()


def test_equals_multihead_attention_of_pytorch():
    """The same weights give what torch.nn.MultiheadAttention gives, forward and backward."""
    torch = pytest.importorskip("torch")
    heads, size, state_size = 3, 12, 10
    network = make_network(attention="multihead", n_heads=heads, decoder_sizes=(12,), encoder_sizes=(5,), spread=0.5)
    p = network.parameters
    theirs = torch.nn.MultiheadAttention(size, heads, kdim=state_size, vdim=state_size, batch_first=True).double()
    with torch.no_grad():
        for name in ("query", "key", "value"):
            getattr(theirs, f"{name[0]}_proj_weight").copy_(torch.from_numpy(p[f"attention_{name}_weight"]))
        joined = np.concatenate([p[f"attention_{name}_bias"] for name in ("query", "key", "value")])
        theirs.in_proj_bias.copy_(torch.from_numpy(joined))
        theirs.out_proj.weight.copy_(torch.from_numpy(p["attention_output_weight"]))
        theirs.out_proj.bias.copy_(torch.from_numpy(p["attention_output_bias"]))

    # A pass of the decoder, whose own hidden states are the queries.
    rng = np.random.default_rng(0)
    lengths, steps = np.array([4, 1, 7]), np.array([3, 5, 2])
    states = rng.normal(size=(12, state_size))
    starts = np.cumsum(lengths) - lengths
    source = decoder_source(rng, states, starts, lengths)
    inputs = rng.normal(size=(int(steps.sum()), 4))
    decoder = network.decoder
    run = decoder.forward(p, source, inputs, steps)
    top, total = run.layout[-1], run.memory.total
    padded, begin, count = int(top[1]), int(top[2]), len(run.order)
    rows = slice(count, None)
    queries = run.memory.states[begin : begin + total * padded].reshape(total, padded)[rows, :size]
    contexts = run.memory.contexts.reshape(-1, run.attention.context_pitch)[:total][rows, :size]
    mask = torch.from_numpy(np.arange(7) >= lengths[:, None])
    padded_states = torch.zeros(3, 7, state_size, dtype=torch.float64)
    for i in range(3):
        padded_states[i, : lengths[i]] = torch.from_numpy(states[starts[i] : starts[i] + lengths[i]])
    offsets = run.packing.offsets
    for t in range(run.packing.n_timesteps):
        own = slice(offsets[t], offsets[t + 1])
        sequences = run.order[: offsets[t + 1] - offsets[t]]
        memory = padded_states[sequences]
        output, weights = theirs(
            torch.from_numpy(queries[own].copy())[:, None], memory, memory, key_padding_mask=mask[sequences]
        )
        np.testing.assert_allclose(contexts[own], output[:, 0].detach().numpy(), rtol=1e-10)
        for i, sequence in enumerate(sequences):
            mean = run.weights[offsets[t] + i, :, : lengths[sequence]].mean(axis=0)
            np.testing.assert_allclose(mean, weights[i, 0, : lengths[sequence]].detach().numpy(), rtol=1e-10)
    decoder.release(run)


def decoder_source(rng, states, starts, lengths):
    from numrnn.seq2seq.decoder import Source

    return Source(rng.normal(size=(len(lengths), 10)), states, starts, lengths)
