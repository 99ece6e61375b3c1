"""J, F and J&F of masks as the DAVIS benchmark defines them, under the field's protocols."""

from noisyvos.metrics.evaluate import score
from noisyvos.metrics.measures import boundary_f, jaccard
from noisyvos.metrics.scores import Scores, by_category

__all__ = ["Scores", "boundary_f", "by_category", "jaccard", "score"]
