"""Finding the learnware that fits, and saying how sure that is."""

from learndock.search.filters import Filters
from learndock.search.ranking import Identification, Match, identify

__all__ = ["Filters", "Identification", "Match", "identify"]
