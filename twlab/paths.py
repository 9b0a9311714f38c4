"""The paths of twlab's own files on this machine."""

from pathlib import Path

PACKAGE = Path(__file__).parent  # twlab/
IMPORT_FROM = PACKAGE.parent  # the folder to put on sys.path, so that another Python finds this twlab
TOPOLOGIES = PACKAGE.resolve().parent / "topologies"
