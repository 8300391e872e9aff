"""Between the pixel formats of videos and RGB, through FFmpeg's scaler."""

import numpy as np
from av.video.reformatter import Interpolation

# Rounds to nearest and interpolates chroma: what is decoded and encoded again hardly changes.
SCALER = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
# The matrices between RGB and YUV that FFmpeg's scaler knows, under its own names. Pixels of
# others, and of videos that do not say, are converted in both directions as FFmpeg does by default.
SCALER_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
# FFmpeg's scaler takes this for white where pixels have 16 bits.
SCALER_WHITE = 255 * 256
FROM_SCALER = np.rint(np.minimum(np.arange(65536) / SCALER_WHITE, 1) * 65535).astype(np.uint16)
TO_SCALER = np.rint(np.arange(65536) * (SCALER_WHITE / 65535)).astype(np.uint16)
