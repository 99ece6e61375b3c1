"""AFB-URR per frame at 480x854 against a direct transcription of the published procedure.

CPU time on equal inputs and outputs.

    python benchmarks/afb_urr.py [--frames 3] [--objects 1]

The transcription does what the published evaluation loop does, with the same weights: every channel
carries its own copy of the frame and of its features through encoder and decoder, normalisation and
ReLU are steps of their own, and affinities and similarities with the whole bank exist at once. One
process, one thread, CPU seconds; masks are compared at the end.
"""

import argparse
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transcribed import compare, made_up

from noisyvos import models
from noisyvos.inference import segment_video
from noisyvos.models.afb_urr.network import AFBURR
from noisyvos.models.aggregation import padding
from noisyvos.models.stm_parts.encoders import Encoder

BUDGET, RATE, THRESHOLD = 300_000, 0.1, 0.95


def encode(encoder: Encoder, frame: Tensor, masks: Tensor | None = None) -> list[Tensor]:
    """Return features of a frame from coarse to fine, repeated for every channel where masks (K.

    H, W) are given.
    """
    if masks is not None:
        frame = frame.expand(len(masks), -1, -1, -1)
    x = encoder.conv1((frame - encoder.mean) / encoder.std)
    if masks is not None:
        x = x + encoder.conv1_m(masks[:, None]) + encoder.conv1_o((1 - masks[:, None]).clamp(0, 1))
    finest = F.relu(encoder.bn1(x))
    fine = encoder.res2(F.max_pool2d(finest, 3, 2, 1))
    middle = encoder.res3(fine)
    return [encoder.res4(middle), middle, fine, finest]


def update(
    keys: Tensor, values: Tensor, info: Tensor, new: tuple[Tensor, Tensor], frame: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a channel's bank with the features of a frame absorbed or appended.

    The budget is never reached here.
    """
    likeness, into = (F.normalize(keys, dim=0).T @ F.normalize(new[0], dim=0)).max(0)
    old = likeness > THRESHOLD
    hit, place, counts = into[old].unique(return_inverse=True, return_counts=True)
    result = []
    for held, fresh in zip((keys, values), new, strict=True):
        held = held.clone()
        total = torch.zeros(held.shape[0], len(hit)).index_add(
            1, place, F.normalize(fresh, dim=0)[:, old]
        )
        turned = (1 - RATE) * F.normalize(held[:, hit], dim=0) + RATE * total / counts
        held[:, hit] = held[:, hit].norm(dim=0) * turned
        result.append(torch.cat([held, fresh[:, ~old]], 1))
    added = torch.tensor([[float(frame), 0.0]]).expand(int((~old).sum()), -1)
    return result[0], result[1], torch.cat([info, added])


def block(module: nn.Module, x: Tensor) -> Tensor:
    """Return a residual block of the decoder, step by step."""
    return x + module.conv2(F.relu(module.conv1(F.relu(x))))


def refine(module: nn.Module, skip: Tensor, coarse: Tensor) -> Tensor:
    """Return one refinement of the decoder with everything done per channel."""
    joined = block(module.ResFS, module.convFS(skip)) + F.interpolate(
        coarse, scale_factor=2, mode="bilinear", align_corners=False
    )
    return block(module.ResMM, joined)


def segment(model: AFBURR, frame: Tensor, bank: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return scores (K, H, W) of a padded frame and count the uses of the bank's features."""
    deep, middle, fine, finest = encode(model.encoder_q, frame)
    query, own = model.keyval_r4(deep)
    found = []
    for keys, values, info in bank:
        weights = torch.softmax(keys.T @ query[0].flatten(1) / math.sqrt(len(keys)), 0)
        info[:, 1] += torch.log((weights > 1e-3).sum(1) + 1)
        found.append(torch.cat([(values @ weights).view_as(own), own], 1))
    count, decoder = len(bank), model.decoder
    middle, fine, finest = (x.expand(count, -1, -1, -1) for x in (middle, fine, finest))
    x = block(decoder.ResMM, decoder.convFM(torch.cat(found)))
    x = refine(decoder.RF2, fine, refine(decoder.RF3, middle, x))
    coarse = F.interpolate(
        decoder.pred2(F.relu(x)), scale_factor=2, mode="bilinear", align_corners=False
    )
    rough = torch.softmax(torch.softmax(coarse, 1)[None, :, 1], 1)
    top = rough.topk(2, dim=1).values
    doubt = torch.exp(1 - top[:, 0] / (top[:, 1] + 1e-8))[:, None].expand(count, -1, -1, -1)
    share = rough[0, :, None]
    local = F.avg_pool2d(finest * share, 7, 1, 3) / (F.avg_pool2d(share, 7, 1, 3) + 1e-8)
    x = block(decoder.local_ResMM, decoder.local_convFM(torch.cat([finest, local], 1)))
    coarse = coarse + doubt * F.max_pool2d(share, 7, 1, 3) * decoder.local_pred2(F.relu(x))
    alone = torch.softmax(
        F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False), 1
    )[:, 1].clamp(1e-7, 1 - 1e-7)
    return torch.log(alone / (1 - alone))


@torch.inference_mode()
def transcription(model: AFBURR, frames: Tensor, mask: np.ndarray) -> np.ndarray:
    """Return the masks (T, H, W) of the published evaluation loop for DAVIS."""
    pads = padding(*mask.shape, 16)
    left, _, top, _ = pads
    height, width = mask.shape
    index = torch.from_numpy(mask)
    soft = torch.stack([(index == label).float() for label in range(int(mask.max()) + 1)])
    masks, bank = [mask], []
    for t, frame in enumerate(frames.split(1)):
        image = F.pad(frame, pads)
        if t:
            soft = torch.softmax(
                segment(model, image, bank)[:, top : top + height, left : left + width], 0
            )
            masks.append(soft.argmax(0).to(torch.uint8).numpy())
        if t == len(frames) - 1:
            break
        keys, values = (
            x.flatten(2)
            for x in model.keyval_r4(encode(model.encoder_m, image, F.pad(soft, pads))[0])
        )
        if t:
            bank = [
                update(*held, new, t)
                for held, new in zip(bank, zip(keys, values, strict=True), strict=True)
            ]
        else:
            bank = [
                (key, value, torch.zeros(key.shape[1], 2))
                for key, value in zip(keys, values, strict=True)
            ]
    return np.stack(masks)


def main() -> None:
    """Print CPU seconds per segmented frame of both, their ratio and how many pixels differ.

    The exit code is 1 above the bar.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--objects", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = models.build("afb_urr").eval()
    frames, mask = made_up(options.frames, options.objects)
    memory = {"budget": BUDGET, "update_rate": RATE, "similarity_threshold": THRESHOLD}
    segment_video(
        model, frames[:2], {0: mask}, memory=memory
    )  # first calls prepare kernels and memory
    good = compare(
        "afb_urr",
        lambda: transcription(model, frames, mask),
        lambda: segment_video(model, frames, {0: mask}, memory=memory).masks,
        options.frames,
    )
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
