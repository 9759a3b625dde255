"""Docks: what every dock can do (``Dock``), the local and the remote one, and what they check and store."""

from learndock.dock.admission import Admitted, admit
from learndock.dock.local import LocalDock
from learndock.dock.open import open_dock, open_local_dock
from learndock.dock.protocol import Dock, GcResult, Problem, Record, Removed, identify, route
from learndock.dock.storage.blobs import BlobStore, DiskBlobs
from learndock.dock.storage.publications import Event
from learndock.dock.summary import Summary

__all__ = [
    "Admitted",
    "BlobStore",
    "DiskBlobs",
    "Dock",
    "Event",
    "GcResult",
    "LocalDock",
    "Problem",
    "Record",
    "Removed",
    "Summary",
    "admit",
    "identify",
    "open_dock",
    "open_local_dock",
    "route",
]
