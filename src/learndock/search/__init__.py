"""Ranking learnwares for a task, and saying how sure that is: numbers only, no dock.

A dock gives its specs of a space as a ``SpecTable`` and asks it. What differs between docks, who may see what and where
the numbers are, is the dock's.
"""

from learndock.search.answer import Answers, Identification, Match
from learndock.search.filters import EVERY, Filters
from learndock.search.route import Near, Route
from learndock.search.table import SpecTable

__all__ = ["EVERY", "Answers", "Filters", "Identification", "Match", "Near", "Route", "SpecTable"]
