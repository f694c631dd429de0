"""How a recurrent kernel is laid over blocks and threads: one choice, by an estimate of the time of a step.

The estimate counts what a multiprocessor can do in a cycle, and what a step waits for whatever it computes. Its numbers
are those of the data sheets of Ampere and Hopper and of published measurements of latencies; a measurement can replace
them here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from numrnn.kernels.cuda.registers import SIMULATED, WARP, WORD_BYTES
from numrnn.kernels.equations import CELLS

__all__ = ["Device", "Geometry", "choose_geometry"]

# Registers of four bytes, by threads of a block, which share 64 Ki of them:
# (threads of a block, weights of a thread, weights and the sums that it has at a time): what compiles without spills.
_REGISTERS = ((128, 96, 112), (256, 96, 112), (512, 24, 28))
_MOST_SUMS = 16
# Cycles: a barrier of one block with what goes through shared memory between its stages, the equations of one unit, one
# round of exchange between lanes, a meeting of blocks at a counter in the second-level cache.
_STAGES, _EQUATIONS, _ROUND, _MEETING = 160.0, 220.0, 30.0, 1400.0
# Per multiprocessor and cycle: multiply-adds of float32, words of 16 bytes read from shared memory by a warp at one
# address or in a row, bytes from the second-level cache.
_MULTIPLY_ADDS, _SHARED_BYTES, _CACHE_BYTES = 128.0, 128.0, 24.0
# Cycles of a step that launches its own product and its own kernel, and multiply-adds of the product per cycle of a
# whole multiprocessor; what a launch of one step costs.
_LAUNCH = 9000.0
_PRODUCT_EFFICIENCY = 0.4


@dataclass(frozen=True)
class Device:
    """What the choice depends on.

    Attributes
    ----------
    n_multiprocessors : int
    shared_bytes : int
        That a block may have.
    most_weights : int
        Registers in which a thread may keep weights, whatever the block; the assembler for devices before Hopper needs
        more of the others.
    most_threads : int
        Of a block, for the same reason.
    """

    n_multiprocessors: int = 132
    shared_bytes: int = 48 * 1024
    most_weights: int = 96
    most_threads: int = 512


@dataclass(frozen=True)
class Geometry:
    """A recurrent kernel over blocks and threads.

    Attributes
    ----------
    units : int
        Of a block.
    units_each : int
        Of a thread.
    lanes : int
        Threads that share the summation index: a power of two.
    words : int
        Words of the summation index that a thread has.
    sequences : int
        Vectors that are multiplied at a time.
    chunk : int
        Vectors that are in shared memory at a time.
    threads : int
        Of a block: units / units_each * lanes.
    vector_pitch : int
        Elements of a vector, padded to whole words for every lane.
    n_unit_blocks : int
        Blocks among which the units are divided.
    together : bool
        Whether these meet after every step, in one cooperative launch.
    """

    units: int
    units_each: int
    lanes: int
    words: int
    sequences: int
    chunk: int
    threads: int
    vector_pitch: int
    n_unit_blocks: int
    together: bool

    @property
    def label(self) -> str:
        """For the name of the kernel."""
        kind = "together" if self.together else "alone"
        return (
            f"{self.units}x{self.units_each}x{self.lanes}x{self.words}_{self.sequences}_{self.chunk}_"
            f"{self.n_unit_blocks}_{kind}"
        )

    def shared_size(self, slice_size: int, row_gates: int, n_states: int, n_slots: int) -> int:
        """Elements of shared memory: vectors, parts of sums, biases, states."""
        parts = self.lanes // min(self.lanes, WARP)
        size = self.chunk * self.vector_pitch + parts * self.chunk * row_gates * self.units
        return size + n_states * slice_size * self.units + n_slots * self.units


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


@lru_cache(maxsize=1024)
def choose_geometry(
    cell_name: str, backward: bool, hidden_size: int, itemsize: int, n_sequences: int, n_directions: int, device: Device
) -> tuple[Geometry, int] | None:
    """The geometry with the shortest step and the sequences of a slice; None if a product for each step is faster.

    Parameters
    ----------
    cell_name : str
    backward : bool
    hidden_size, itemsize : int
    n_sequences : int
    n_directions : int
        In one launch.
    device : Device
    """
    best: tuple[float, Geometry, int] | None = None
    for geometry, slice_size, cycles in _candidates(
        cell_name, backward, hidden_size, itemsize, n_sequences, n_directions, device
    ):
        if best is None or cycles < best[0]:
            best = cycles, geometry, slice_size
    if best is None:
        return None
    cell = CELLS[cell_name]
    flops = cell.n_gates * hidden_size**2 * n_sequences * n_directions * (itemsize // 4) ** 2
    step_by_step = 2 * _LAUNCH + flops / (_MULTIPLY_ADDS * _PRODUCT_EFFICIENCY * device.n_multiprocessors)
    return None if step_by_step < best[0] and not SIMULATED else best[1:]


def _candidates(cell_name, backward, hidden_size, itemsize, n_sequences, n_directions, device):  # type: ignore[no-untyped-def]
    """Geometries with the sequences of a slice and the cycles of a step."""
    cell = CELLS[cell_name]
    row_gates = 1 if backward else cell.n_gates
    depth = cell.n_gates * hidden_size if backward else hidden_size
    width, scale = WORD_BYTES // itemsize, itemsize // 4
    # The summation runs through all lanes of all warps that share it.
    for lanes in (1, 2) if SIMULATED else (1, 2, 4, 8, 16, 32, 64, 128, 256):
        words = -(-depth // (lanes * width))
        for units_each in (1, 2, 4):
            rows = units_each * row_gates
            weights = rows * words * width * scale
            if weights > 128 or (units_each > 1 and units_each > hidden_size):
                continue
            for threads, most_weights, most in ((4, 128, 144),) if SIMULATED else _REGISTERS:
                units = threads // lanes * units_each
                if lanes > threads or weights > min(most_weights, device.most_weights) or threads > device.most_threads:
                    continue
                # Not more threads than there are units for, in whole warps.
                units = min(units, _up(hidden_size, units_each))
                n_threads = units // units_each * lanes
                if n_threads % (1 if SIMULATED else 32):
                    n_threads = _up(n_threads, 32)
                    if n_threads % lanes:
                        continue
                    units = n_threads // lanes * units_each
                n_unit_blocks = -(-hidden_size // units)
                # The units are divided evenly.
                room = device.n_multiprocessors // (n_unit_blocks * n_directions)
                if room < 1:
                    continue
                slice_size = -(-n_sequences // min(room, n_sequences))
                n_slices = -(-n_sequences // slice_size)
                sequences = 1
                most_sums = min(_MOST_SUMS, min(most, device.most_weights + 16) - weights)
                while sequences < min(slice_size, 8) and 2 * sequences * rows * scale <= most_sums:
                    sequences *= 2
                pitch = lanes * words * width
                multi = n_unit_blocks > 1
                fixed = cell.n_states * slice_size * units + cell.n_slots * units
                per_sequence = pitch + lanes // min(lanes, WARP) * row_gates * units
                most_vectors = (device.shared_bytes // itemsize - fixed) // per_sequence // sequences * sequences
                chunk = min(_up(slice_size, sequences), most_vectors)
                if chunk < sequences or (not multi and chunk < slice_size):
                    continue
                geometry = Geometry(
                    units, units_each, lanes, words, sequences, chunk, n_threads, pitch, n_unit_blocks,
                    multi and not SIMULATED,
                )  # fmt: skip
                assert n_slices * n_unit_blocks * n_directions <= device.n_multiprocessors
                padded = _up(slice_size, sequences)
                warps = max(n_threads / 32, 1)
                work = padded * rows * words * width * scale * warps * 32
                # A machine needs several warps, or sums, to be busy.
                busy = min(1.0, warps * rows * sequences / 32)
                multiply_adds = work / (_MULTIPLY_ADDS * busy)
                reads = padded * words * warps * min(32, lanes) * WORD_BYTES / _SHARED_BYTES
                rounds = (padded / sequences) * min(lanes, 32).bit_length() * _ROUND
                equations = _EQUATIONS * -(-slice_size * units // n_threads)
                fetched = slice_size * pitch * itemsize / _CACHE_BYTES if multi else 0.0
                n_chunks = -(-slice_size // chunk)
                cycles = (
                    max(multiply_adds, reads) + rounds + equations + fetched + n_chunks * _STAGES
                    + (_MEETING + 4.0 * n_unit_blocks if multi else 0.0)
                )  # fmt: skip
                yield geometry, slice_size, cycles
