"""transformers' Qwen2.5-VL made quick to train on a CPU, and the heads that teach its ViT.

The weights and results are those of the plain class. Attention within windows and pairs runs in
one call for all blocks of a length, where transformers calls once for each block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionPatchEmbed,
    Qwen2_5_VLAttention,
    Qwen2_5_VLRMSNorm,
    Qwen2_5_VLVisionAttention,
)

from models.demo.scenes.canvas import PARTS
from models.demo.training.architecture import HEADS, HIDDEN
from models.demo.training.batches import Batch
from models.demo.training.lessons import PLACES, STATES
from models.demo.training.schedule import KINDS, Kind

GAZING = 2
"""The text layer that is told where to look: those before it gather what is asked and what is
where, the one after it speaks."""

SCALE = 8.0
"""Tokens that count as one where a place is learnt."""

Model = Any  # Qwen2_5_VLForConditionalGeneration, which carries no types


class PatchEmbed(Qwen2_5_VisionPatchEmbed):
    """The convolution over whole patches as the matrix product that it is."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(n, 1176) to (n, hidden)."""
        weight = self.proj.weight
        return F.linear(hidden_states, weight.view(len(weight), -1))


class BlockAttention(Qwen2_5_VLVisionAttention):
    """The ViT's attention with all blocks of one length in one call."""

    def forward(
        self,
        hidden_states: Tensor,
        cu_seqlens: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        **_: Any,
    ) -> Tensor:
        """(n, hidden) to (n, hidden)."""
        n = hidden_states.shape[0]
        qkv = self.qkv(hidden_states).view(n, 3, self.num_heads, -1)
        cos, sin = (part[:, None, None].to(qkv.dtype) for part in position_embeddings)
        qkv = torch.cat([_rotated(qkv[:, :2], cos, sin), qkv[:, 2:]], 1)
        lengths = cu_seqlens.diff()
        found, order = [], []
        for length in lengths.unique().tolist():
            starts = cu_seqlens[:-1][lengths == length]
            rows = (starts[:, None] + torch.arange(length)).view(-1)
            block = qkv[rows].view(len(starts), length, 3, self.num_heads, -1)
            q, k, v = block.permute(2, 0, 3, 1, 4).unbind(0)
            # On a CPU in bfloat16 two plain products are twice as quick as the fused kernel.
            weights = ((q * self.scaling) @ k.transpose(-1, -2)).softmax(-1).to(v.dtype)
            found.append((weights @ v).transpose(1, 2).reshape(len(rows), -1))
            order.append(rows)
        mixed = torch.cat(found)[torch.cat(order).argsort()]
        return self.proj(mixed)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class Norm(Qwen2_5_VLRMSNorm):
    """torch's own RMS norm."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The same shape."""
        return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)


class GazingAttention(Qwen2_5_VLAttention):
    """Attention that can tell where its first head looked in the last call."""

    given: tuple[Tensor, Tensor, tuple[Tensor, Tensor]]
    """Hidden states (b, n, hidden), who sees whom (b, 1, n, n), and the turns of positions."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        **rest: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """(b, n, hidden) to the same shape."""
        self.given = hidden_states, attention_mask, position_embeddings
        return super().forward(
            hidden_states,
            attention_mask=attention_mask,
            position_embeddings=position_embeddings,
            **rest,
        )

    def look(self) -> tuple[Tensor, Tensor]:
        """Log of the head's weights (b, n, n), and what it brought back (b, n, head)."""
        known, mask, turns = self.given
        q, k = (
            _rotated(project(known)[..., : self.head_dim], *turns)
            for project in (self.q_proj, self.k_proj)
        )
        v = self.v_proj(known)[..., : self.head_dim]
        scores = (q @ k.transpose(-1, -2)).float() * self.scaling
        weights = scores.masked_fill(~mask[:, 0], -torch.inf).log_softmax(-1)
        return weights, weights.exp().to(v.dtype) @ v


def quicken(model: Model) -> Model:
    """Swap in the quicker modules; the weights stay where they are."""
    model.model.language_model.layers[GAZING].self_attn.__class__ = GazingAttention
    model.model.visual.patch_embed.__class__ = PatchEmbed
    for block in model.model.visual.blocks:
        block.attn.__class__ = BlockAttention
    for module in model.modules():
        if isinstance(module, Qwen2_5_VLRMSNorm):
            module.__class__ = Norm
    return model


class Teacher(nn.Module):
    """What is asked of every visual token while the ViT learns to see; not part of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.states = nn.Linear(HIDDEN, 2 * len(STATES))
        self.covered = nn.Linear(HIDDEN, 2)
        self.sides = nn.Linear(HIDDEN, 8)
        self.parts = nn.Linear(HIDDEN, PLACES * len(PARTS))
        self.place = nn.Linear(HIDDEN, 2)
        self.box = nn.Linear(HIDDEN // HEADS, 4)
        self.weight = torch.ones(len(PARTS))
        self.weight[0] = 0.2  # most places show nothing in particular

    def forward(self, visual: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss, and the share of actors whose state is told from the mean over their tokens."""
        visual = self.norm(visual.float())
        moments = batch.moments[batch.owners]
        picked = visual[batch.tokens]
        rows = torch.arange(len(picked))
        logits = self.states(picked).view(-1, 2, len(STATES))[rows, moments]
        sizes = torch.bincount(batch.owners, minlength=len(batch.states)).clamp(min=1)
        pooled = torch.zeros(len(batch.states), len(STATES), dtype=logits.dtype)
        pooled = pooled.index_add(0, batch.owners, logits) / sizes[:, None]
        each = F.cross_entropy(logits.float(), batch.states[batch.owners], reduction="none")
        each = (each / sizes[batch.owners]).sum() / len(batch.states)
        whole = F.cross_entropy(pooled.float(), batch.states)
        sides = self.sides(picked).view(-1, 2, 4)[rows, moments]
        off = F.smooth_l1_loss(sides.float(), batch.sides, reduction="none").mean(1)
        off = (off / sizes[batch.owners]).sum() / len(batch.states)
        truth = torch.zeros(len(visual), 2)
        truth[batch.tokens, moments] = 1
        covered = F.binary_cross_entropy_with_logits(self.covered(visual).float(), truth)
        named = self.parts(visual).view(-1, len(PARTS))
        seen = F.cross_entropy(named.float(), batch.parts.view(-1).long(), weight=self.weight)
        right = (pooled.argmax(1) == batch.states).float().mean()
        return 0.5 * each + 0.5 * whole + 0.3 * off + covered + seen, right

    def look(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """How far off the model looked when it spoke last, and how little it knows of places.

        The first is in nats, 0 where it looked at whom an answer is about alone. The second is the
        loss of where each visual token is and of the box around what was looked at. Tokens carry
        no place of their own: attention alone knows it, by how it turns (M-RoPE).
        """
        attention = model.model.language_model.layers[GAZING].self_attn
        weights, brought = attention.look()
        sample, row, which = batch.gazes.unbind(1)
        missed = weights[sample, row].masked_fill(~batch.looked_at[which], -torch.inf).logsumexp(-1)
        known = attention.given[0][batch.visual].float()
        place = F.smooth_l1_loss(self.place(known), batch.places / SCALE)
        box = self.box(brought[sample, row].float())
        off = F.smooth_l1_loss(box, batch.boxes[which] / SCALE, reduction="none").mean(1)
        return -_over_gazes(missed, batch), place + _over_gazes(off, batch)


def _over_gazes(values: Tensor, batch: Batch) -> Tensor:
    """Mean over gazes of the mean over the words of each: (m,) to a scalar."""
    which = batch.gazes[:, 2]
    words = torch.bincount(which, minlength=len(batch.boxes))
    return (values / words[which]).sum() / max(1, len(words))


@dataclass(frozen=True)
class Said:
    """What the model would say where it is to speak."""

    logits: Tensor
    """(m, vocabulary), one for each id with a weight."""
    targets: Tensor
    """(m,)."""
    weights: Tensor
    """(m,)."""

    def loss(self) -> Tensor:
        """Weighted mean cross entropy."""
        each = F.cross_entropy(self.logits.float(), self.targets, reduction="none")
        return (each * self.weights).sum() / self.weights.sum()


def see(model: Model, batch: Batch) -> Tensor:
    """The ViT's visual tokens: (v, hidden)."""
    return model.model.visual(batch.pixels(), grid_thw=batch.grids).pooler_output


def speak(
    model: Model, batch: Batch, visual: Tensor, emphasis: Mapping[Kind, float] | None = None
) -> Said:
    """The language model on prompts, media and answers; `emphasis` multiplies kinds' weights."""
    embedded = model.model.language_model.embed_tokens(batch.ids)
    embedded = embedded.masked_scatter(batch.visual[..., None], visual.to(embedded.dtype))
    hidden = model.model.language_model(
        inputs_embeds=embedded,
        position_ids=batch.positions,
        attention_mask={"full_attention": batch.mask},
        use_cache=False,
    ).last_hidden_state
    asked = batch.weights[:, 1:] > 0
    factors = torch.tensor([(emphasis or {}).get(kind, 1.0) for kind in KINDS])
    weights = batch.weights * factors[batch.kinds]
    logits = model.lm_head(hidden[:, :-1][asked])
    return Said(logits, batch.ids[:, 1:][asked], weights[:, 1:][asked])
