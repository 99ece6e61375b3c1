"""STM per frame at 480x854 against a direct transcription of the published procedure.

CPU time on equal inputs and outputs.

    python benchmarks/stm.py [--frames 4] [--objects 1] [--every 5]

The transcription does what the published evaluation loop does, with the same weights: every object
carries its own copy of the frame and of its features through encoder and decoder, normalisation and
ReLU are steps of their own, and the affinity of the whole memory exists at once. One process, one
thread, CPU seconds; masks are compared at the end.
"""

import argparse
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transcribed import compare, made_up

from noisyvos import models
from noisyvos.inference import segment_video
from noisyvos.models.aggregation import padding
from noisyvos.models.stm.network import STM
from noisyvos.models.stm_parts.encoders import Encoder

MASK_CHANNELS = 11


def encode(
    encoder: Encoder, frame: Tensor, masks: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return deep, middle and fine features of a frame.

    Repeated for every object where masks are given.
    """
    if masks is not None:
        frame = frame.expand(len(masks[0]), -1, -1, -1)
    x = encoder.conv1((frame - encoder.mean) / encoder.std)
    if masks is not None:
        x = x + encoder.conv1_m(masks[0][:, None]) + encoder.conv1_o(masks[1][:, None])
    x = F.max_pool2d(F.relu(encoder.bn1(x)), 3, 2, 1)
    fine = encoder.res2(x)
    middle = encoder.res3(fine)
    return encoder.res4(middle), middle, fine


def memorise(model: STM, frame: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values (N, C, 1, h, w) of all objects, masks (N, H, W)."""
    others = torch.stack(
        [torch.cat([masks[:i], masks[i + 1 :]]).sum(0).clamp(0, 1) for i in range(len(masks))]
    )
    key, value = model.KV_M_r4(encode(model.Encoder_M, frame, (masks, others))[0])
    return key[:, :, None], value[:, :, None]


def residual(module: torch.nn.Module, x: Tensor) -> Tensor:
    """Return a residual block of the decoder done step by step."""
    return x + module.conv2(F.relu(module.conv1(F.relu(x))))


def refine(module: torch.nn.Module, skip: Tensor, coarse: Tensor) -> Tensor:
    """Return one refinement of the decoder with everything done per object."""
    enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return residual(module.ResMM, residual(module.ResFS, module.convFS(skip)) + enlarged)


def segment(model: STM, frame: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return probabilities (K, H, W) of all mask channels from memory (N, C, T, h, w)."""
    deep, middle, fine = encode(model.Encoder_Q, frame)
    query, own = model.KV_Q_r4(deep)
    query, own, middle, fine = (x.expand(len(keys), -1, -1, -1) for x in (query, own, middle, fine))
    similar = keys.flatten(2).mT @ query.flatten(2) / math.sqrt(query.shape[1])
    read = (values.flatten(2) @ torch.softmax(similar, 1)).view_as(own)
    decoder = model.Decoder
    x = residual(decoder.ResMM, decoder.convFM(torch.cat([read, own], 1)))
    x = refine(decoder.RF2, fine, refine(decoder.RF3, middle, x))
    logits = F.interpolate(
        decoder.pred2(F.relu(x)), scale_factor=4, mode="bilinear", align_corners=False
    )
    objects = torch.softmax(logits, 1)[:, 1]
    joined = torch.zeros(MASK_CHANNELS, *objects.shape[1:])
    joined[0] = torch.prod(1 - objects, 0)
    joined[1 : len(objects) + 1] = objects
    joined = joined.clamp(1e-7, 1 - 1e-7)
    return torch.softmax(torch.log(joined / (1 - joined)), 0)


@torch.inference_mode()
def transcription(model: STM, frames: Tensor, mask: np.ndarray, every: int) -> np.ndarray:
    """Return the masks (T, H, W) of the published evaluation loop."""
    count, pads = int(mask.max()), padding(*mask.shape, 16)
    left, _, top, _ = pads
    height, width = mask.shape
    index = torch.from_numpy(mask)
    soft = torch.stack([(index == label).float() for label in range(1, count + 1)])
    masks, kept = [mask], None
    for t in range(1, len(frames)):
        new = memorise(model, F.pad(frames[t - 1 : t], pads), F.pad(soft, pads))
        memory = (
            new
            if kept is None
            else tuple(torch.cat(pair, 2) for pair in zip(kept, new, strict=True))
        )
        if (t - 1) % every == 0:
            kept = memory
        found = segment(model, F.pad(frames[t : t + 1], pads), *memory)[
            :, top : top + height, left : left + width
        ]
        soft = found[1 : count + 1]
        masks.append(found.argmax(0).to(torch.uint8).numpy())
    return np.stack(masks)


def main() -> None:
    """Print CPU seconds per segmented frame of both, their ratio and how many pixels differ.

    The exit code is 1 above the bar.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="stm", choices=["stm", "stm_resnet18"])
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--every", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = models.build(options.model).eval()
    frames, mask = made_up(options.frames, options.objects)
    transcription(model, frames[:2], mask, options.every)  # first calls prepare kernels and memory
    good = compare(
        options.model,
        lambda: transcription(model, frames, mask, options.every),
        lambda: segment_video(model, frames, {0: mask}, memory={"every": options.every}).masks,
        options.frames,
    )
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
