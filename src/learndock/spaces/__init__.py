"""Spaces: everything that must be equal for two specs to be comparable."""

from learndock.spaces.space import DEFAULT, Space, default_space, get_space, list_spaces
from learndock.spaces.weights import FileSource

__all__ = ["DEFAULT", "FileSource", "Space", "default_space", "get_space", "list_spaces"]
