"""Which frames and which objects of a video count: what the benchmarks differ in while J and F stay the same."""

from dataclasses import dataclass

from noisyvos.errors import UserError, unknown_name


@dataclass(frozen=True)
class Protocol:
    """A benchmark's choice of frames and objects.

    With `late_objects`, every id of the truth is an object, scored from the frame after its first mask on. Without,
    objects are 1..K for the largest id K of the first true mask, ids between that have no pixel included; whatever
    the truth shows later is background.
    """

    name: str
    drop_first: bool
    drop_last: bool
    late_objects: bool = False

    def scored(self, frames: tuple[str, ...], sequence: str) -> tuple[str, ...]:
        """Return the frames that count, of the sorted frames that have a true mask; UserError if none is left."""
        kept = frames[int(self.drop_first) : len(frames) - int(self.drop_last)]
        if not kept:
            raise UserError(
                f"Sequence {sequence!r} has {len(frames)} true masks ({', '.join(frames)}), and protocol {self.name!r} leaves none of "
                f"them to score. Use another protocol, or leave this sequence out."
            )
        return kept


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("davis", drop_first=True, drop_last=True),
        Protocol("visor", drop_first=True, drop_last=False),
        Protocol("youtube_vos", drop_first=True, drop_last=False, late_objects=True),
        Protocol("long_videos", drop_first=True, drop_last=False),
        Protocol("all_frames", drop_first=False, drop_last=False),
    )
}


def get_protocol(name: str) -> Protocol:
    """Return a protocol by its name; UserError lists the known names."""
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
