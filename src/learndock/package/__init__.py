"""The learnware folder: a model, its specification, its manifest and its card; nothing that runs on load.

pack             make one of a trained model
open_learnware   open one, verified
"""

from learndock.package.learnware import Learnware, open_learnware
from learndock.package.manifest import Base, Manifest
from learndock.package.packing import Packed, pack
from learndock.package.safety import check_files

__all__ = ["Base", "Learnware", "Manifest", "Packed", "check_files", "open_learnware", "pack"]
