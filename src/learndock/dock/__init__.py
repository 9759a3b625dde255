"""What the dock keeps: records, blobs, and the checks at its door."""

from learndock.dock.admission import Admitted, admit
from learndock.dock.local import Dock, Record, SpecTable, open_dock
from learndock.dock.storage.blobs import BlobStore, DiskBlobs
from learndock.dock.storage.verify import Problem

__all__ = [
    "Admitted",
    "BlobStore",
    "DiskBlobs",
    "Dock",
    "Problem",
    "Record",
    "SpecTable",
    "admit",
    "open_dock",
]
