from .maps import blur_heat_map, draw_windows
from .pictures import most_changed, save_comparison, save_details, save_video

__all__ = [
    'blur_heat_map',
    'draw_windows',
    'most_changed',
    'save_comparison',
    'save_details',
    'save_video',
]
