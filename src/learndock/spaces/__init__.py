"""Spaces: everything that must be equal for two specs to be comparable."""

from learndock.spaces.space import DEFAULT, Space, default_space, get_space, list_spaces

__all__ = ["DEFAULT", "Space", "default_space", "get_space", "list_spaces"]
