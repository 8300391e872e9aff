from .maps import blur_heat_map, draw_windows
from .pictures import save_comparison, save_video

__all__ = ['blur_heat_map', 'draw_windows', 'save_comparison', 'save_video']
