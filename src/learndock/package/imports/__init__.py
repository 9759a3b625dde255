"""Models that exist elsewhere, brought into the folder that ``pack`` takes, with what their source says of them.

mlflow      a folder with an MLmodel file, a local file store or registry, ``runs:/...`` and ``models:/...``
hub         a folder in the hub's cache, a plain model folder with its card, or a name

Nothing is loaded and nothing that a source names is run: files are copied, and YAML is read without its tags.
"""

from learndock.package.imports.found import Found
from learndock.package.imports.hub import open_hub
from learndock.package.imports.mlflow import open_mlflow

__all__ = ["Found", "open_hub", "open_mlflow"]
