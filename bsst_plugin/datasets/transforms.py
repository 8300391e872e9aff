"""Loading frames with a clear word when one of them cannot be used."""

import cv2
import numpy as np
from mmagic.datasets.transforms import LoadImageFromFile
from mmagic.registry import TRANSFORMS

from bsst_plugin.errors import UserError


@TRANSFORMS.register_module()
class LoadFrames(LoadImageFromFile):
    """MMagic's ``LoadImageFromFile``, naming the file when a frame cannot be used.

    Takes the same arguments.
    """

    def transform(self, results: dict) -> dict:
        """Load the frames of a clip.

        Args:
            results: Holds ``KEY_path``, a list of paths.

        Returns:
            ``results`` with the frames under ``KEY``.

        Raises:
            UserError: A frame is missing, does not decode, or has another size than the first.
        """
        results = super().transform(results)
        paths, shapes = results[f'{self.key}_path'], results[f'ori_{self.key}_shape']
        if not isinstance(paths, list):
            return results
        for path, shape in zip(paths, shapes, strict=True):
            if shape != shapes[0]:
                raise UserError(
                    f'{path}: {shape[1]} x {shape[0]} pixels, but the clip starts with '
                    f'{shapes[0][1]} x {shapes[0][0]}; give all frames of a clip one size'
                )
        return results

    def _load_image(self, filename: str) -> np.ndarray:
        try:
            image = super()._load_image(filename)
        except FileNotFoundError as error:
            raise UserError(
                f'{filename}: no such frame; its clip must be complete, numbered from 0'
            ) from error
        except (cv2.error, OSError, ValueError):  # truncated, empty or not an image at all
            image = None
        if image is None:
            raise UserError(
                f'{filename}: not a readable image; restore the file or remove its clip'
            )
        return image
