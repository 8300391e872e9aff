from pathlib import Path

import cv2
import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='session')
def one_photograph(tmp_path_factory):
    """Config of the small model, on one photograph and with few frames."""
    root = tmp_path_factory.mktemp('photographs')
    folders = [root / split / 'backgrounds' for split in ('train', 'val')]
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.random((n, n, 3)), (400, 300)) for n in (4, 16, 64)]
    for folder in folders:
        folder.mkdir(parents=True)
        assert cv2.imwrite(str(folder / 'a.png'), (255 * np.mean(layers, 0)).astype(np.uint8))
    path = root / 'config.py'
    clips = f"data_root='{root}', settings=dict(num_frames=4, size=64)"
    path.write_text(
        f"_base_ = ['{REPO}/configs/bsstnet_small.py']\n"
        f'capture = dict(exposure=(0.8, 0.8), video_share=0, averaged_share=0, soft_share=0)\n'
        f'train_dataloader = dict(dataset=dict({clips}, capture=capture))\n'
        f'val_dataloader = dict(dataset=dict({clips}, capture=capture, length=2))\n'
    )
    return path
