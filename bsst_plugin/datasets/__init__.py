from .blur_synthesis import (
    BlurSettings,
    Layer,
    Motion,
    Recording,
    Scene,
    render_clip,
    render_linear,
    to_linear,
    to_srgb,
)
from .capture import Capture, CaptureSettings, Response, random_capture, random_response
from .demo import DEMO_CLIPS, DEMO_SETTINGS, render_demo_clips
from .mean_kernel import mean_kernel
from .photographs import TEST_PHOTOGRAPHS, TRAIN_PHOTOGRAPHS, Photograph, find_photographs
from .random_scene import RandomMotion, random_motion, random_scene, scene_over
from .render import DEFAULT_CLIPS, render_dataset
from .rendered_clips import RenderedClips
from .resumable import ResumableSampler, SeededFramesDataset
from .transforms import LoadFrames
from .video_windows import VideoWindows

__all__ = [
    'DEFAULT_CLIPS',
    'DEMO_CLIPS',
    'DEMO_SETTINGS',
    'TEST_PHOTOGRAPHS',
    'TRAIN_PHOTOGRAPHS',
    'BlurSettings',
    'Capture',
    'CaptureSettings',
    'Layer',
    'LoadFrames',
    'Motion',
    'Photograph',
    'RandomMotion',
    'Recording',
    'RenderedClips',
    'Response',
    'ResumableSampler',
    'Scene',
    'SeededFramesDataset',
    'VideoWindows',
    'find_photographs',
    'mean_kernel',
    'random_capture',
    'random_motion',
    'random_response',
    'random_scene',
    'render_clip',
    'render_dataset',
    'render_demo_clips',
    'render_linear',
    'scene_over',
    'to_linear',
    'to_srgb',
]
