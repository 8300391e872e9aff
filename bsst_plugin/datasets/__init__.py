from .blur_synthesis import (
    BlurSettings,
    Layer,
    Motion,
    Scene,
    render_clip,
    render_linear,
    to_linear,
    to_srgb,
)
from .random_scene import RandomMotion, random_motion, random_scene
from .render import (
    DEFAULT_CLIPS,
    TEST_PHOTOGRAPHS,
    TRAIN_PHOTOGRAPHS,
    Photograph,
    find_photographs,
    render_dataset,
)
from .transforms import LoadFrames

__all__ = [
    'DEFAULT_CLIPS',
    'TEST_PHOTOGRAPHS',
    'TRAIN_PHOTOGRAPHS',
    'BlurSettings',
    'Layer',
    'LoadFrames',
    'Motion',
    'Photograph',
    'RandomMotion',
    'Scene',
    'find_photographs',
    'random_motion',
    'random_scene',
    'render_clip',
    'render_dataset',
    'render_linear',
    'to_linear',
    'to_srgb',
]
