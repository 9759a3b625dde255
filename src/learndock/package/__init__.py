"""The learnware folder: a model, its specification, its manifest and its card; nothing that runs on load.

pack             make one of a trained model
open_learnware   open one, verified
"""

from learndock.package.formats import Model
from learndock.package.formats.generation import GenerativeModel
from learndock.package.learnware import Learnware, open_learnware
from learndock.package.manifest import Base, File, Manifest, SpecFile
from learndock.package.packing import Packed, pack
from learndock.package.safety import check_files

__all__ = [
    "Base",
    "File",
    "GenerativeModel",
    "Learnware",
    "Manifest",
    "Model",
    "Packed",
    "SpecFile",
    "check_files",
    "open_learnware",
    "pack",
]
