"""Reading and writing videos and folders of frames."""

from bsst_plugin.video.folder import FolderWriter, FrameFolder
from bsst_plugin.video.frames import Frame, FrameSource, FrameWriter, Look, to_8_bits, upright
from bsst_plugin.video.reader import VideoFile, open_source
from bsst_plugin.video.writer import VideoWriter

__all__ = [
    'FolderWriter',
    'Frame',
    'FrameFolder',
    'FrameSource',
    'FrameWriter',
    'Look',
    'VideoFile',
    'VideoWriter',
    'open_source',
    'to_8_bits',
    'upright',
]
