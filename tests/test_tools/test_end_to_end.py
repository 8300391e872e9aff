"""GoPro as it is published, with small frames: converted, checked, trained, tested, resumed."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests'))
from run_command import run_command  # noqa: E402
from tiny_config import losses, write_tiny_recipe  # noqa: E402

# The first number of a video's frames, which is anything, and how many it has.
VIDEOS = {
    'train/GOPR0372_07_00': (47, 6),
    'train/GOPR0384_11_02': (1, 5),
    'test/GOPR0384_11_00': (1, 7),
    'test/GOPR0396_11_00': (401, 6),
}


@pytest.fixture
def published(tmp_path, moving_clip):
    """A folder as GOPRO_Large.zip unpacks to."""
    root = tmp_path / 'GOPRO_Large'
    for seed, (video, (first, count)) in enumerate(VIDEOS.items()):
        sharp = moving_clip(count + 2, 72, 96, (3, 1), seed)[0].permute(0, 2, 3, 1).numpy()
        light = sharp**2.2
        kinds = {
            'sharp': sharp[1:-1],
            'blur': (sharp[:-2] + sharp[1:-1] + sharp[2:]) / 3,
            'blur_gamma': ((light[:-2] + light[1:-1] + light[2:]) / 3) ** (1 / 2.2),
        }
        for kind, frames in kinds.items():
            (root / video / kind).mkdir(parents=True)
            for number, frame in enumerate(frames, start=first):
                path = root / video / kind / f'{number:06d}.png'
                assert cv2.imwrite(str(path), (255 * frame).round().astype(np.uint8))
    return root


def succeed(*command):
    done = run_command(*command)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_from_the_published_archive_to_numbers(published, tmp_path):
    data, work_dir = tmp_path / 'data', tmp_path / 'work'
    text = succeed('tools/dataset_converters/gopro.py', published, data)
    assert '2 of 22' in text and '13 of 1111' in text
    assert 'every pair is in order' in succeed('tools/dataset_converters/gopro.py', '--check', data)

    config = write_tiny_recipe(tmp_path / 'tiny.py', data, iters=3)
    train = ['tools/train.py', config, '--work-dir', work_dir]
    succeed(*train, '--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2')
    assert set(losses(work_dir)) == {1, 2}
    checkpoint = work_dir / 'best_PSNR_iter_2.pth'
    assert checkpoint.is_file()
    assert list(work_dir.glob('*/vis_data/events.out.tfevents.*'))
    (picture,) = work_dir.glob('*/vis_data/vis_image/*.png')
    assert cv2.imread(str(picture)).shape == (72, 3 * 96, 3)  # blurry, output, sharp

    succeed('tools/test.py', config, checkpoint, '--work-dir', tmp_path / 'tested')
    (results,) = (tmp_path / 'tested').glob('*/results.json')
    results = json.loads(results.read_text())
    assert [window['frames'] for window in results['windows']] == [[2, 3, 4], [2, 3]]
    assert results['mean_over_windows']['PSNR'] > 10

    succeed(*train, '--resume')
    assert set(losses(work_dir)) == {1, 2, 3}
    assert (work_dir / 'iter_3.pth').is_file()
