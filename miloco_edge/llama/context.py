"""A context: KV cells, sequences, and decoding of tokens and visual tokens into them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from miloco_edge.errors import ContextFullError, EngineError, ModelLoadError, NonFiniteError
from miloco_edge.llama import native
from miloco_edge.llama.activations import ActivationSums, observing
from miloco_edge.llama.model import TextModel

_DECODE_NO_SLOT, _DECODE_ABORTED = 1, 2

N_BATCH = 512
"""Tokens computed at once, and the longest that a deadline waits for."""
KVType = Literal["f16", "q8_0"]
_KV_TYPES: dict[KVType, int] = {"f16": 1, "q8_0": 8}  # ggml_type
_FLASH_ATTENTION = {
    False: llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    True: llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
}


@dataclass(frozen=True, eq=False)
class Run:
    """Text tokens one after another, in one sequence or shared by several.

    Sequences that share a run must have all that came before it in common, too.
    """

    sequences: tuple[int, ...]
    tokens: NDArray[np.int32]
    """(n,) int32, at least one."""
    position: int
    """Of the first token."""


class Interrupted(Exception):
    """A stop was asked for while tokens were decoded. Not an error: the caller knows why."""


class Context:
    """A KV cache shared by many sequences, and the buffers to decode into it.

    The cache is unified: `copy` of a sequence is metadata only, and the cells of a scene are held
    once however many questions hang on it. Positions are M-RoPE's; `llama_memory_seq_add` and
    `seq_div` abort the process for such models (llama-kv-cache.cpp), so nothing here shifts.
    """

    def __init__(
        self,
        model: TextModel,
        *,
        n_ctx: int,
        threads: int,
        n_batch: int = N_BATCH,
        n_seq: int = 64,
        flash_attention: bool | None = None,
        kv_type: KVType = "f16",
        observer: ActivationSums | None = None,
    ) -> None:
        self.model = model
        self._observer = observer
        self.abort = native.AbortFlag()
        # A decode may ask for the logits of every sequence at once: fewer tokens than that abort.
        self.n_batch = min(max(n_batch, n_seq), n_ctx)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_ctx
        # One physical batch per call: more tokens than n_batch is an assert in llama_decode, and
        # the clock is read between calls.
        params.n_batch = params.n_ubatch = self.n_batch
        params.n_seq_max = n_seq
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        if flash_attention is not None:
            params.flash_attn_type = _FLASH_ATTENTION[flash_attention]
        params.type_k = params.type_v = _KV_TYPES[kv_type]
        params.no_perf = True
        params.abort_callback = self.abort.callback
        params.abort_callback_data = self.abort.data
        if observer is not None:
            params.cb_eval = observer.callback
        native.take_last_error()
        self.handle = llama_cpp.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise ModelLoadError(
                f"{model.path.name}: llama.cpp could not make a context of {n_ctx} tokens: "
                f"{native.take_last_error()}",
                hint="try a smaller --context",
            )
        self.n_ctx = int(llama_cpp.llama_n_ctx(self.handle))
        self._memory = llama_cpp.llama_get_memory(self.handle)
        self._free_sequences = list(range(n_seq - 1, -1, -1))
        self._own_cells: dict[int, int] = {}
        self._copy_of: dict[int, int] = {}
        self.give_way: Callable[[], bool] = lambda: False
        """Called where cells or sequences are wanted and not free: drops a sequence that nobody
        uses, and says whether there was one. Never the one that is being copied."""

    def close(self) -> None:
        """Free the cache; a second call does nothing."""
        if self.handle:
            llama_cpp.llama_free(self.handle)
            self.handle = None

    @property
    def free_sequences(self) -> int:
        """How many more sequences there may be."""
        return len(self._free_sequences)

    @property
    def free_cells(self) -> int:
        """How many more tokens fit."""
        return self.n_ctx - sum(self._own_cells.values())

    def new_sequence(self, copy_of: int | None = None) -> int:
        """An empty sequence, or one that shares the cells of another.

        Raises ContextFullError where there are as many as there may be.
        """
        if not self._free_sequences and not self.give_way():
            raise ContextFullError(
                1, 0, of="scenes and answers", hint="close scenes that are no longer needed"
            )
        sequence = self._free_sequences.pop()
        self._own_cells[sequence] = 0
        if copy_of is not None:
            llama_cpp.llama_memory_seq_cp(self._memory, copy_of, sequence, -1, -1)
            self._copy_of[sequence] = copy_of
        return sequence

    def drop_sequence(self, sequence: int) -> None:
        """Give a sequence and the cells that only it holds back."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self._free_sequences.append(sequence)
        own = self._own_cells.pop(sequence)
        origin = self._copy_of.pop(sequence, None)
        heirs = [copy for copy, of in self._copy_of.items() if of == sequence]
        if not heirs:
            return
        # What they share stays as long as one of them does, and is counted for the first.
        first, *others = heirs
        self._own_cells[first] += own
        if origin is None:
            del self._copy_of[first]
        else:
            self._copy_of[first] = origin
        self._copy_of.update(dict.fromkeys(others, first))

    def state(self, sequence: int) -> bytes:
        """All that a sequence holds, for `restore` in a context made the same way."""
        size = llama_cpp.llama_state_seq_get_size(self.handle, sequence)
        buffer = (ctypes.c_uint8 * size)()
        got = llama_cpp.llama_state_seq_get_data(self.handle, buffer, size, sequence)
        if got != size:
            raise EngineError(f"expected {size} bytes of a sequence's state, got {got}")
        return bytes(buffer)

    def restore(self, state: bytes, cells: int) -> int | None:
        """A new sequence of `cells` tokens from its `state`, at the positions that it had.

        None where llama.cpp does not take it. Only for what `state` gave: it is not checked.
        """
        self.reserve(cells)
        sequence = self.new_sequence()
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if not llama_cpp.llama_state_seq_set_data(self.handle, buffer, len(state), sequence):
            self.drop_sequence(sequence)
            return None
        self._own_cells[sequence] = cells
        return sequence

    def truncate(self, sequence: int, position: int, cells: int) -> None:
        """Forget the last `cells` tokens of the sequence, which begin at `position`."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, position, -1)
        self._own_cells[sequence] -= cells

    def remove(self, sequence: int, position: int, cells: int) -> None:
        """Forget the `cells` visual tokens at a temporal position; what follows stays in place.

        For a sequence that nobody shares: `is_shared` tells.
        """
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, position, position + 1)
        self._own_cells[sequence] -= cells

    def is_shared(self, sequence: int) -> bool:
        """Whether there are copies of a sequence."""
        return sequence in self._copy_of.values()

    def make_room(self, cells: int) -> int:
        """Have what nobody uses give way to `cells` more tokens; how many fit then."""
        while cells > self.free_cells and self.give_way():
            pass
        return self.free_cells

    def reserve(self, cells: int) -> None:
        """Raise ContextFullError unless `cells` more tokens fit."""
        if cells > self.make_room(cells):
            raise ContextFullError(
                cells,
                self.free_cells,
                hint="raise --context, lower --visual-tokens or --max-tokens, or close scenes",
            )

    def decode_tokens(
        self,
        sequence: int,
        tokens: NDArray[np.int32],
        position: int,
        check: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float32]:
        """Decode text tokens (n,) at positions from `position` on: logits of the last, (n_vocab,).

        `check` is called before each slice and may raise to stop. Raises Interrupted if the abort
        flag was set, ContextFullError if no cells are left, NonFiniteError on NaN logits.
        """
        positions = np.arange(position, position + len(tokens), dtype=np.int32)
        for start in range(0, len(tokens), self.n_batch):
            check()
            part = slice(start, start + self.n_batch)
            last = start + self.n_batch >= len(tokens)
            wanted = np.zeros(len(tokens[part]), np.int8)
            wanted[-1] = last
            owners = [((sequence,), len(wanted))]
            self._decode(owners, positions[part], wanted, tokens=tokens[part])
        return self.logits_at(-1)

    def decode_every(
        self, sequence: int, tokens: NDArray[np.int32], position: int
    ) -> NDArray[np.float32]:
        """As `decode_tokens`, with the logits after each token: (n, n_vocab) float32."""
        rows = []
        for start in range(0, len(tokens), self.n_batch):
            part = tokens[start : start + self.n_batch]
            positions = np.arange(len(part), dtype=np.int32) + position + start
            wanted = np.ones(len(part), np.int8)
            self._decode([((sequence,), len(part))], positions, wanted, tokens=part)
            rows += [self.logits_at(i) for i in range(len(part))]
        return np.stack(rows)

    def decode_runs(self, runs: Sequence[Run]) -> list[int]:
        """Decode several runs, at most `n_batch` tokens in all, in one go.

        Returns for each run the place of its last token, for `logits_at` and the samplers until
        the next decode. A run comes after those that its sequences build on. Raises as
        `decode_tokens`; what is not finite shows when it is read.
        """
        lengths = [len(run.tokens) for run in runs]
        ends = np.cumsum(lengths) - 1
        wanted = np.zeros(sum(lengths), np.int8)
        wanted[ends] = 1
        self._decode(
            [(run.sequences, len(run.tokens)) for run in runs],
            np.concatenate([run.position + np.arange(len(run.tokens)) for run in runs]),
            wanted,
            tokens=np.concatenate([run.tokens for run in runs]),
        )
        return [int(end) for end in ends]

    def decode_visual(
        self,
        sequence: int,
        embeddings: NDArray[np.float32],
        positions: NDArray[np.int32],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Decode visual tokens (n, n_embd) at M-RoPE positions (3, n); nothing is read back.

        Raises as `decode_tokens`.
        """
        n = len(embeddings)
        # Four sections, the last unused, section after section: t, row, column, 0
        # (llama-batch.cpp; mtmd-helper-common.h, set_position_mrope_2d).
        sections = np.concatenate([positions, np.zeros((1, n), np.int32)])
        for start in range(0, n, self.n_batch):
            check()
            part = slice(start, start + self.n_batch)
            wanted = np.zeros(len(embeddings[part]), np.int8)
            owners = [((sequence,), len(wanted))]
            self._decode(owners, sections[:, part], wanted, embeddings=embeddings[part])

    def _decode(
        self,
        owners: Sequence[tuple[tuple[int, ...], int]],
        positions: NDArray[np.int32],
        wanted: NDArray[np.int8],
        *,
        tokens: NDArray[np.int32] | None = None,
        embeddings: NDArray[np.float32] | None = None,
    ) -> None:
        """One llama_decode over arrays of ours.

        `owners` says which sequences the tokens belong to, as (sequences, number of tokens) in
        order; `wanted` (n,) which tokens get logits.

        llama_batch_init is not used: it allocates one position a token, and visual tokens need
        four (heap corruption otherwise). The arrays live until the call returns.
        """
        n = positions.shape[-1]
        positions = np.ascontiguousarray(positions, dtype=np.int32).reshape(-1)
        sequences = [np.array(who, np.int32) for who, count in owners for _ in range(count)]
        counts = np.array([len(who) for who in sequences], np.int32)
        ids = np.concatenate(sequences)
        starts = np.cumsum(counts) - counts
        id_pointers = (ids.ctypes.data + ids.itemsize * starts).astype(np.uintp)
        if self._observer is not None and tokens is not None:
            # Rows without outputs skip the last block's FFN (llama-graph.cpp, inp_out_ids). Any
            # text row may be an output; visual rows never are, in calibration as in inference.
            wanted = np.ones(n, np.int8)
        batch = llama_cpp.llama_batch()
        batch.n_tokens = n
        if tokens is not None:
            tokens = np.ascontiguousarray(tokens, dtype=np.int32)
            batch.token = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        if embeddings is not None:
            embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
            batch.embd = embeddings.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        batch.pos = positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.n_seq_id = counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.seq_id = id_pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)))
        batch.logits = wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self.reserve(n)
        with observing(self._observer, "text" if tokens is not None else "visual"):
            status = llama_cpp.llama_decode(self.handle, batch)
        if status == _DECODE_ABORTED:
            raise Interrupted
        if status == _DECODE_NO_SLOT:
            raise ContextFullError(n, 0, hint="raise --context, or close scenes")
        if status != 0:
            raise EngineError(f"llama_decode failed with {status}: {native.take_last_error()}")
        # Shared cells are counted once, for the first; those who share are dropped together.
        for who, count in owners:
            self._own_cells[who[0]] += count

    def logits_at(self, index: int) -> NDArray[np.float32]:
        """Logits (n_vocab,) at a place of the last decode, -1 for its last token with logits.

        Raises NonFiniteError on NaN.
        """
        pointer = llama_cpp.llama_get_logits_ith(self.handle, index)
        logits = np.ctypeslib.as_array(pointer, (self.model.n_vocab,)).copy()
        if not np.isfinite(logits).all():
            raise NonFiniteError("language model")
        return logits
