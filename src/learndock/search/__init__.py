"""Finding the learnware that fits, and saying how sure that is."""

from learndock.search.ranking import Identification, Match, identify

__all__ = ["Identification", "Match", "identify"]
