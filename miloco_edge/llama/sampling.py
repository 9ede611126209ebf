"""Choosing the next token."""

from __future__ import annotations

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from miloco_edge.llama.context import Context
from miloco_edge.llama.model import TextModel
from miloco_edge.types import Sampling, TokenLogprob, TopToken


class Sampler:
    """A sampler chain; close it after use. Raises ValueError for a grammar that does not parse."""

    def __init__(self, model: TextModel, sampling: Sampling) -> None:
        self.handle = llama_cpp.llama_sampler_chain_init(
            llama_cpp.llama_sampler_chain_default_params()
        )
        parts = []
        if sampling.grammar is not None:
            grammar = llama_cpp.llama_sampler_init_grammar(
                model.vocab, sampling.grammar.encode(), b"root"
            )
            if not grammar:
                self.close()
                raise ValueError("expected a GBNF grammar with a rule named root")
            parts.append(grammar)
        if sampling.temperature > 0:
            seed = llama_cpp.LLAMA_DEFAULT_SEED if sampling.seed is None else sampling.seed
            parts += [
                llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1),
                llama_cpp.llama_sampler_init_temp(sampling.temperature),
                llama_cpp.llama_sampler_init_dist(seed & 0xFFFFFFFF),
            ]
        else:
            parts.append(llama_cpp.llama_sampler_init_greedy())
        for part in parts:
            llama_cpp.llama_sampler_chain_add(self.handle, part)

    def close(self) -> None:
        """Free the chain; a second call does nothing."""
        if self.handle:
            llama_cpp.llama_sampler_free(self.handle)
            self.handle = None

    def sample(self, context: Context, place: int = -1) -> int:
        """Choose from the logits at a place of the last decode; remember the choice (grammar)."""
        return int(llama_cpp.llama_sampler_sample(self.handle, context.handle, place))


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log probabilities of logits (..., n_vocab), in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def token_logprob(
    model: TextModel, logits: NDArray[np.float32], token: int, k: int
) -> TokenLogprob:
    """The chosen token among its `k` likeliest rivals, before any sampling."""
    logprobs = log_softmax(logits)
    k = min(k, len(logprobs))
    best = np.argpartition(-logprobs, k - 1)[:k]
    best = best[np.argsort(-logprobs[best], kind="stable")]
    top = tuple(TopToken(model.text_of(int(i)), int(i), float(logprobs[i])) for i in best)
    return TokenLogprob(model.text_of(token), token, float(logprobs[token]), top)
