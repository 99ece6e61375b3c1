"""Sources that a person puts in place, because of their licence, a registration or ownership."""

from noisyvos.raw.base import SOURCES
from noisyvos.raw.published import PublishedSettings, PublishedSource


class ByHandSettings(PublishedSettings):
    """Settings of `by_hand`."""


@SOURCES.register("by_hand", ByHandSettings)
class ByHandSource(PublishedSource):
    """Files that a person downloads or owns; a link to their folder will do."""

    settings: ByHandSettings
