"""Scoring masks: J, F and J&F as the DAVIS benchmark defines them, under the protocols of the field."""

from noisyvos.metrics.evaluate import score
from noisyvos.metrics.measures import boundary_f, jaccard
from noisyvos.metrics.scores import Scores
from noisyvos.metrics.statistics import by_category

__all__ = ["Scores", "boundary_f", "by_category", "jaccard", "score"]
