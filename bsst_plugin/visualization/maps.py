"""The blur map and the selected windows drawn over frames."""

import cv2
import numpy as np

QUERY_COLOUR = (255, 112, 32)
KEY_COLOUR = (32, 208, 255)


def blur_heat_map(frame: np.ndarray, blur_map: np.ndarray) -> np.ndarray:
    """Blend a frame with its blur map: dark where sharp, yellow where blurry.

    Args:
        frame: ``(h, w, 3)`` uint8 RGB.
        blur_map: ``(h', w')`` float in [0, 1], of any size.

    Returns:
        ``(h, w, 3)`` uint8 RGB.
    """
    size = (frame.shape[1], frame.shape[0])
    blur = cv2.resize(blur_map.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    heat = cv2.applyColorMap(np.rint(255 * blur).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.addWeighted(frame, 0.4, cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), 0.6, 0)


def draw_windows(
    frame: np.ndarray, queries: np.ndarray, keys: np.ndarray, window: tuple[int, int]
) -> np.ndarray:
    """Outline the windows of a frame that take part in the sparse attention.

    Args:
        frame: ``(h, w, 3)`` uint8 RGB.
        queries: ``(m, n_w)`` bool, the windows that ask; outlined in orange.
        keys: ``(m, n_w)`` bool, the windows that answer; outlined in blue, inside the orange.
        window: Height and width of a window in pixels of the frame.

    Returns:
        ``(h, w, 3)`` uint8 RGB, darkened where a window does not take part.
    """
    out = np.ascontiguousarray(frame // 2)  # OpenCV draws on nothing else
    h, w = frame.shape[:2]
    for row, column in np.argwhere(queries | keys):
        top, left = row * window[0], column * window[1]
        bottom, right = min(top + window[0], h), min(left + window[1], w)
        out[top:bottom, left:right] = frame[top:bottom, left:right]
        for chosen, colour, inset in ((queries, QUERY_COLOUR, 1), (keys, KEY_COLOUR, 4)):
            if chosen[row, column]:
                corners = (left + inset, top + inset), (right - 1 - inset, bottom - 1 - inset)
                cv2.rectangle(out, *corners, colour, thickness=2)
    return out
