"""Several answers to each of several questions about each of several clips, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import DynamicCache

from miloco_edge.prompt.chat import END_OF_TURN
from models.demo.training.batches import collate, pads
from models.demo.training.conversation import id_of
from models.demo.training.network import Model, see
from models.demo.training.samples import Sample


@dataclass(frozen=True)
class Prompt:
    """A question about the clip of `sample`, an index."""

    sample: int
    ids: list[int]


@dataclass(frozen=True)
class Completion:
    """What the model said to a prompt."""

    ids: list[int]
    """With the end of its turn, if it came to that."""
    ended: bool


@torch.no_grad()
def roll_out(
    model: Model,
    tokenizer: Tokenizer,
    samples: Sequence[Sample],
    prompts: Sequence[Prompt],
    *,
    limit: int,
    temperature: float,
    generator: torch.Generator | None = None,
) -> list[Completion]:
    """One completion for each prompt; temperature 0 takes the likeliest id.

    Samples are clips without exchanges. A clip is prefilled once, its KV copied to its prompts.
    """
    batch = collate(list(samples), pads(tokenizer))
    visual = see(model, batch)
    language = model.model.language_model
    embedded = language.embed_tokens(batch.ids)
    embedded = embedded.masked_scatter(batch.visual[..., None], visual.to(embedded.dtype))
    cache = DynamicCache(config=language.config)
    language(
        inputs_embeds=embedded, position_ids=batch.positions, past_key_values=cache,
        attention_mask={"full_attention": batch.mask}, use_cache=True,
    )  # fmt: skip
    which = torch.tensor([prompt.sample for prompt in prompts])
    cache.batch_select_indices(which)
    seen = torch.arange(batch.ids.shape[1]) < torch.tensor([len(s.ids) for s in samples])[:, None]
    seen = seen[which]
    at = torch.tensor([int(sample.positions.max()) + 1 for sample in samples])[which]
    longest = max(len(prompt.ids) for prompt in prompts)
    # Left of shorter prompts stands what nobody sees, so that all answers begin together.
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    there = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt.ids) :] = torch.tensor(prompt.ids)
        there[row, longest - len(prompt.ids) :] = True
    positions = at[:, None] + there.cumsum(1) - 1
    return _decode(
        model, cache, ids, positions, seen, there, id_of(END_OF_TURN, tokenizer),
        limit, temperature, generator,
    )  # fmt: skip


def _decode(
    model: Model, cache: DynamicCache, ids: Tensor, positions: Tensor, seen: Tensor, there: Tensor,
    end: int, limit: int, temperature: float, generator: torch.Generator | None,
) -> list[Completion]:  # fmt: skip
    rows, width = ids.shape
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    own = causal & there[:, None]
    own = own | torch.eye(width, dtype=torch.bool)  # a row that sees nothing has no softmax
    mask = torch.cat([seen[:, None].expand(-1, width, -1), own], 2)[:, None]
    seen = torch.cat([seen, there], 1)
    said: list[list[int]] = [[] for _ in range(rows)]
    ended = torch.zeros(rows, dtype=torch.bool)
    for _ in range(limit):
        hidden = model.model.language_model(
            input_ids=ids, position_ids=positions.expand(3, -1, -1), past_key_values=cache,
            attention_mask={"full_attention": mask}, use_cache=True,
        ).last_hidden_state[:, -1]  # fmt: skip
        logits = model.lm_head(hidden).float()
        if temperature > 0:
            odds = (logits / temperature).softmax(-1)
            chosen = torch.multinomial(odds, 1, generator=generator)[:, 0]
        else:
            chosen = logits.argmax(-1)
        for row in (~ended).nonzero()[:, 0].tolist():
            said[row].append(int(chosen[row]))
        ended |= chosen == end
        if bool(ended.all()):
            break
        ids, positions = chosen[:, None], positions[:, -1:] + 1
        seen = torch.cat([seen, torch.ones(rows, 1, dtype=torch.bool)], 1)
        mask = seen[:, None, None]
    return [Completion(ids, bool(done)) for ids, done in zip(said, ended, strict=True)]
