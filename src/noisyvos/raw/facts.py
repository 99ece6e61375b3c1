"""What is known of published material besides its files: counts to check it against, room, registration, what is not confirmed."""

from pydantic import Field

from noisyvos.registry import Settings


class Counts(Settings):
    """Published numbers of one split; None where none is known. `recalled` names those that no page at hand confirms."""

    sequences: int | None = Field(None, ge=0)
    frames: int | None = Field(None, ge=0)
    objects: int | None = Field(None, ge=0)
    images: int | None = Field(None, ge=0)
    instances: int | None = Field(None, ge=0)
    annotated_frames: int | None = Field(None, ge=0)
    categories: int | None = Field(None, ge=0)
    recalled: tuple[str, ...] = ()


class Facts(Settings):
    """What both kinds of published sources say of themselves. `recalled` names the facts that no page at hand confirms."""

    about: str
    url: str = ""
    licence: str = ""
    registration: str = Field(
        "", description="What a person has to do first: an account, terms, a form."
    )
    disk: str = Field("", description="Room that the material takes, in words.")
    published: dict[str, Counts] = Field(
        default_factory=dict, description="Published counts by split."
    )
    recalled: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person should know before fetching the material, one fact a line."""
        pairs = (
            ("What it is:  ", self.about),
            ("Where from:  ", self.url),
            ("Licence:     ", self.licence),
            ("First:       ", self.registration),
            ("Disk:        ", self.disk),
            ("Unconfirmed: ", ", ".join(self.recalled)),
        )
        return [f"{label}{' '.join(text.split())}" for label, text in pairs if text]
