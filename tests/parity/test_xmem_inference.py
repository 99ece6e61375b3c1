"""XMem's inference (working and long-term memory.

Late objects) against published reference results.
"""

import numpy as np
import pytest
import torch

from noisyvos.inference import segment_video

COMMON = {
    "mem_every": 1,
    "deep_update_every": -1,
    "enable_long_term": True,
    "min_mid_term_frames": 2,
    "num_prototypes": 16,
}
CASES = {
    "d": (
        "xmem:clip",
        10,
        2,
        {0: (1, 2)},
        COMMON
        | {
            "enable_long_term_count_usage": True,
            "max_mid_term_frames": 4,
            "max_long_term_elements": 40,
        },
    ),
    "e": (
        "xmem:clip",
        8,
        2,
        {0: (1, 2)},
        {"enable_long_term": False, "mem_every": 2, "deep_update_every": 3, "top_k": 12},
    ),
    "f": (
        "xmem:late",
        10,
        3,
        {0: (1, 2), 3: (3,)},
        COMMON
        | {
            "enable_long_term_count_usage": False,
            "max_mid_term_frames": 5,
            "max_long_term_elements": 1000,
        },
    ),
}


def make_case(parity_weights, case: str) -> tuple[torch.Tensor, dict, dict]:
    """Return frames, annotations and memory settings of a case."""
    tag, length, objects, given, memory = CASES[case]
    frames = torch.stack(
        [parity_weights.image(f"{tag}:frame{t}", 3, 90, 122) for t in range(length)]
    )
    annotations = {}
    for t, ids in given.items():
        mask = parity_weights.mask(f"{tag}:mask{t}", objects, 90, 122).numpy()
        annotations[t] = np.where(np.isin(mask, ids), mask, 0).astype(np.uint8)
    return frames, annotations, memory


@pytest.mark.parametrize("case", CASES)
def test_video(case, xmem_model, parity_weights, xmem_expected) -> None:
    frames, annotations, memory = make_case(parity_weights, case)
    video = segment_video(xmem_model, frames, annotations, memory=memory, keep_probabilities=True)

    if case != "e":  # without a long-term memory the reference holds no sizes
        sizes = [[usage["working"], usage["long_term"]] for usage in video.memory_usage]
        assert sizes == xmem_expected[f"{case}_sizes"].tolist()
    agreement = (video.masks == xmem_expected[f"{case}_masks"]).reshape(len(frames), -1).mean(1)
    assert agreement.min() >= 0.999
    means = video.probabilities.mean((2, 3))
    wanted = xmem_expected[f"{case}_mean_prob"]
    known = ~np.isnan(wanted)
    assert np.abs(means - wanted)[known].max() < 1e-4
    assert (means[~known] == 0).all()
    assert (
        np.abs(video.probabilities[-1][:, ::3, ::3] - xmem_expected[f"{case}_prob_last"]).max()
        < 1e-3
    )


def test_fixed_groups_differ_only_after_consolidation(xmem_model, parity_weights) -> None:
    frames, annotations, memory = make_case(parity_weights, "f")
    faithful = segment_video(
        xmem_model, frames, annotations, memory=memory, keep_probabilities=True
    )
    fixed = segment_video(
        xmem_model,
        frames,
        annotations,
        memory=memory | {"late_groups": "fixed"},
        keep_probabilities=True,
    )
    assert fixed.memory_usage == faithful.memory_usage
    assert np.array_equal(fixed.probabilities[:5], faithful.probabilities[:5])
    assert np.abs(fixed.probabilities[5:] - faithful.probabilities[5:]).max() > 1e-3
