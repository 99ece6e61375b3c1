"""The AFB-URR network (Liang et al., NeurIPS 2020) at its published size, and its training pass.

Parameter names are the published ones.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models import resnet
from noisyvos.models.afb_urr.decoder import (
    CERTAIN,
    Owners,
    PreparedWithLocal,
    RefiningDecoder,
    probabilities,
    scores,
    uncertainty,
)
from noisyvos.models.afb_urr.session import AFBURRSession
from noisyvos.models.afb_urr.settings import AFBURRMemory, AFBURRSettings
from noisyvos.models.aggregation import padding
from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel
from noisyvos.models.stm_parts.encoders import (
    KeyValue,
    MemoryEncoder,
    QueryEncoder,
    Trunk,
    pick,
    resnet_trunk,
)
from noisyvos.models.stm_parts.fast import BLOCKS
from noisyvos.models.stm_parts.matching import read


@MODELS.register("afb_urr", AFBURRSettings)
class AFBURR(VideoModel):
    """Two encoders, one key-value head for both, and a decoder that refines.

    The session has the bank.

    `memorize`, `look` and `segment` take padded frames and masks, and objects of all frames in one
    batch.
    """

    memory_settings = AFBURRMemory
    fast_blocks = BLOCKS
    recorded_parts = ("look", "segment", "memorize")
    settings: AFBURRSettings

    def __init__(self, settings: AFBURRSettings) -> None:
        super().__init__()
        self.settings = settings
        trunk = self.make_trunk()
        self.stride, self.value_channels = trunk.stride, trunk.value
        self.encoder_m = MemoryEncoder(trunk)
        self.encoder_q = QueryEncoder(trunk)
        self.keyval_r4 = KeyValue(trunk)
        self.decoder = RefiningDecoder(trunk, self.local_channels())
        self.initialise()

    def initialise(self) -> None:
        """Draw the weights of decoder and mask convolutions as published.

        The rest is drawn already.
        """
        resnet.initialise(self.decoder)
        for masks in (self.encoder_m.conv1_m, self.encoder_m.conv1_o):
            masks.reset_parameters()

    def make_trunk(self) -> Trunk:
        """Return how the encoders are built."""
        return resnet_trunk(resnet.Bottleneck, (3, 4, 6), 128, 512)

    def local_channels(self) -> int:
        """Return the width of the refinement."""
        return 32

    def memorize(self, frames: Tensor, masks: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (N, C_k, h, w) and values (N, C_v, h, w) of N objects.

        frames (F, 3, H, W) RGB in [0, 1], soft masks (N, H, W), owner (N,) the frame of each
        object.
        """
        return self.keyval_r4(self.encoder_m(frames, masks, (1 - masks).clamp(0, 1), owner))

    def look(self, frames: Tensor) -> tuple[Tensor, PreparedWithLocal]:
        """Return the query key (F, C_k, h, w) of frames (F, 3, H, W) and the decoder's shared
        work.
        """
        features = self.encoder_q(frames)
        key, value = self.keyval_r4(features.deep)
        return key, self.decoder.share_with_local(features, value)

    def segment(self, prepared: PreparedWithLocal, read: Tensor, owners: Owners) -> Tensor:
        """Return two logits per object, (N, 2, H, W), from the readout (N, C_v, h, w)."""
        return self.decoder.refine(prepared, read, owners)

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass: segment every later frame from frame 0 and its mask.

        Nothing is random.

        Objects of all frames form one batch. A slot without an object has the score -1000, because
        background is not a complement here and nothing else would rule the slot out. The
        uncertainty loss is the root mean square over a frame's pixels, summed over a clip's frames,
        as methods do with their losses, and averaged over clips.
        """
        batch, length, _, height, width = clip.frames.shape
        pads = padding(height, width, self.stride)
        frames = F.pad(clip.frames.flatten(0, 1), pads)
        frames = frames.contiguous(memory_format=self.memory_format).unflatten(0, (batch, length))
        slots = torch.arange(clip.slots + 1, device=clip.num_objects.device)
        # of the memory's M channels
        owner, slot = (slots <= clip.num_objects.view(-1, 1)).nonzero(as_tuple=True)

        objects = clip.first_mask()
        masks = torch.cat([1 - objects.sum(1, keepdim=True), objects], 1)
        keys, values = self.memorize(frames[:, 0], F.pad(masks, pads)[owner, slot], owner)

        shown = length - 1
        query, prepared = self.look(frames[:, 1:].flatten(0, 1))
        grid = query.shape[-2:]
        by_clip = (
            query.unflatten(0, (batch, shown)).transpose(1, 2).flatten(2)
        )  # (B, C_k, (T-1) hw)
        found = read(keys.flatten(2), values.flatten(2), pick(by_clip, owner))
        found = found.unflatten(2, (shown, *grid)).transpose(1, 2).flatten(0, 1)
        later = owner[:, None] * shown + torch.arange(shown, device=owner.device)
        owners = Owners(
            later.flatten(), slot.repeat_interleave(shown), batch * shown, clip.slots + 1
        )
        logits = self.segment(prepared, found, owners)

        alone = probabilities(logits, pads, (height, width))
        doubt = uncertainty(owners.softmax(alone)).square().mean((1, 2)).sqrt()  # (B (T - 1),)
        doubt = doubt.view(batch, shown).sum(1).mean()
        joined = owners.spread(scores(alone), -CERTAIN).unflatten(0, (batch, shown))
        weight = self.settings.uncertainty_weight
        return ClipOutput(joined.unbind(1), {"uncertainty": weight * doubt})

    def session(self, *, channels: int, memory: AFBURRMemory, length: int | None) -> Session:
        """Start a video; see `noisyvos.models.afb_urr.session`."""
        return AFBURRSession(self.for_inference(), channels=channels, memory=memory)
