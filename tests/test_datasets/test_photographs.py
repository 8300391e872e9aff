import cv2
import numpy as np

from bsst_plugin.datasets import (
    TEST_PHOTOGRAPHS,
    TRAIN_PHOTOGRAPHS,
    BlurSettings,
    find_photographs,
)

SETTINGS = BlurSettings(num_frames=3, size=32, blur=(3, 6))


def test_bundled_split():
    assert not set(TEST_PHOTOGRAPHS) & set(TRAIN_PHOTOGRAPHS)
    split = find_photographs(None, BlurSettings())
    assert [photo.path.name for photo in split['test']] == list(TEST_PHOTOGRAPHS)
    assert [photo.path.name for photo in split['train']] == list(TRAIN_PHOTOGRAPHS)
    assert all(photo.load().shape[2] == 3 for photos in split.values() for photo in photos)


def test_folder_split(photos, write_photo):
    def names(split):
        return {photo.path.name for photo in split}

    before = find_photographs(photos, SETTINGS)
    assert len(before['train']) + len(before['test']) == 9
    assert [p.transparent for s in before.values() for p in s].count(True) == 1
    for seed in range(10, 60):
        write_photo(photos / f'{seed}.jpg', seed)
    (photos / 'copy.png').write_bytes((photos / 'sub0' / 'holiday.0.png').read_bytes())
    after = find_photographs(photos, SETTINGS)
    assert len(after['train']) + len(after['test']) == 59  # the copy counts once
    assert 3 <= len(after['test']) <= 22
    # What was trained on is not tested on later, nor the other way round.
    write_photo(photos / 'last.jpg', 60)
    last = find_photographs(photos, SETTINGS)
    assert len(after['test']) > 1
    for split, other in (('train', 'test'), ('test', 'train')):
        assert not names(after[split]) & names(last[other])


def test_two_photographs_are_enough(tmp_path, write_photo):
    for first in range(0, 20, 2):
        folder = tmp_path / str(first)
        for seed in (first, first + 1):
            write_photo(folder / f'{seed}.png', seed)
        split = find_photographs(folder, SETTINGS)
        assert len(split['train']) == len(split['test']) == 1


def test_unusual_images(tmp_path, write_photo):
    folder = tmp_path / 'photos'
    for seed in range(4):
        write_photo(folder / f'{seed}.png', seed)
    gray = np.random.default_rng(0).integers(0, 256, (48, 60), dtype=np.uint8)
    assert cv2.imwrite(str(folder / 'gray.jpg'), gray)
    opaque = np.full((48, 60, 4), 255, np.uint8)  # alpha, but nothing to see through
    assert cv2.imwrite(str(folder / 'opaque.png'), opaque)
    (folder / 'notes.txt').write_text('no image')
    (folder / '._0.png').write_bytes(b'left by a file manager')
    split = find_photographs(folder, SETTINGS)
    found = {p.path.name: p for photos in split.values() for p in photos}
    assert len(found) == 6
    assert found['gray.jpg'].load().shape == (48, 60, 3)
    assert not found['opaque.png'].transparent and found['opaque.png'].load().shape == (48, 60, 3)
