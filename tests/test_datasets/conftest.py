import cv2
import numpy as np
import pytest


@pytest.fixture(scope='session')
def write_photo():
    """Write an image of random colours, with a round outline if ``alpha``."""

    def write(path, seed, h=48, w=60, alpha=False):
        rng = np.random.default_rng(seed)
        image = cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (w, h))
        if alpha:
            mask = np.zeros((h, w), np.uint8)
            cv2.circle(mask, (w // 2, h // 2), h // 3, 255, -1)
            image = np.dstack((image, mask))
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)

    return write


@pytest.fixture
def photos(tmp_path, write_photo):
    for seed in range(8):
        write_photo(tmp_path / 'photos' / f'sub{seed % 2}' / f'holiday.{seed}.png', seed)
    write_photo(tmp_path / 'photos' / 'stamp.png', 100, 20, 20, alpha=True)
    return tmp_path / 'photos'
