"""AFB-URR's training pass over a batch of clips (NeurIPS 2020, section 3.4; released training code)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.afb_urr.decoder import probabilities
from noisyvos.models.afb_urr.objects import CERTAIN, Owners, scores, uncertainty
from noisyvos.models.base import Clip
from noisyvos.models.matching import padding
from noisyvos.models.stm_parts.encoders import pick
from noisyvos.models.stm_parts.matching import read

if TYPE_CHECKING:
    from noisyvos.models.afb_urr.network import AFBURR


def run(model: "AFBURR", clip: Clip) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return scores (B, K + 1, H, W) of frames 1..T-1, all segmented from frame 0 and its mask alone, and the uncertainty of the clips.

    The uncertainty is summed over a clip's frames, as methods do with their losses, and averaged over clips; of one frame it is
    the root mean square over its pixels. Objects of all frames form one batch; slots without one have a score of -1000: background is
    no complement here, so that nothing else would rule them out.
    """
    batch, length, _, height, width = clip.frames.shape
    pads = padding(height, width, model.stride)
    frames = (
        F.pad(clip.frames.flatten(0, 1), pads)
        .contiguous(memory_format=model.memory_format)
        .unflatten(0, (batch, length))
    )
    slots = torch.arange(clip.slots + 1, device=clip.num_objects.device)
    owner, slot = (slots <= clip.num_objects.view(-1, 1)).nonzero(
        as_tuple=True
    )  # of the memory's M channels

    objects = clip.first_mask()
    masks = torch.cat([1 - objects.sum(1, keepdim=True), objects], 1)
    keys, values = model.memorize(frames[:, 0], F.pad(masks, pads)[owner, slot], owner)

    shown = length - 1
    query, prepared = model.look(frames[:, 1:].flatten(0, 1))
    by_clip = query.unflatten(0, (batch, shown)).transpose(1, 2).flatten(2)  # (B, C_k, (T - 1) hw)
    found = read(keys.flatten(2), values.flatten(2), pick(by_clip, owner)).unflatten(
        2, (shown, *query.shape[-2:])
    )
    later = owner[:, None] * shown + torch.arange(shown, device=owner.device)
    owners = Owners(later.flatten(), slot.repeat_interleave(shown), batch * shown, clip.slots + 1)
    logits = model.segment(prepared, found.transpose(1, 2).flatten(0, 1), owners)

    alone = probabilities(logits, pads, (height, width))
    doubt = uncertainty(owners.softmax(alone)).square().mean((1, 2)).sqrt()  # (B (T - 1),)
    joined = owners.spread(scores(alone), -CERTAIN).unflatten(0, (batch, shown))
    return joined.unbind(1), doubt.view(batch, shown).sum(1).mean()
