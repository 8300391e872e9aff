import shutil

import cv2
import numpy as np
import pytest
from mmengine.config import ConfigDict

from bsst_plugin.datasets.check import check_frame_folders
from bsst_plugin.datasets.transforms import LoadFrames
from bsst_plugin.errors import UserError


@pytest.fixture
def dataset(tmp_path):
    """Config of two clips of three frames, blurry and sharp."""
    for kind in ('blur', 'GT'):
        for clip in ('a', 'b'):
            folder = tmp_path / 'train' / kind / clip
            folder.mkdir(parents=True)
            for index in range(3):
                cv2.imwrite(str(folder / f'{index:05d}.png'), np.full((16, 24, 3), 9, np.uint8))
    return ConfigDict(
        type='BasicFramesDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img='train/blur', gt='train/GT'),
        num_input_frames=3,
    )


def complaint(dataset):
    with pytest.raises(UserError) as error:
        check_frame_folders(dataset)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_a_good_dataset_passes(dataset):
    check_frame_folders(dataset)
    check_frame_folders(ConfigDict(type='RepeatDataset', dataset=dataset))


def test_missing_root(dataset, tmp_path):
    dataset.data_root = str(tmp_path / 'none')
    assert str(tmp_path / 'none') in complaint(dataset)


def test_missing_and_empty_folders(dataset, tmp_path):
    shutil.rmtree(tmp_path / 'train/GT')
    assert str(tmp_path / 'train/GT') in complaint(dataset)
    (tmp_path / 'train/GT').mkdir()
    assert f'{tmp_path / "train/GT"}: holds no clips' in complaint(dataset)


@pytest.mark.parametrize('kind, other', [('blur', 'GT'), ('GT', 'blur')])
def test_clip_without_counterpart(dataset, tmp_path, kind, other):
    shutil.rmtree(tmp_path / 'train' / other / 'b')
    message = complaint(dataset)
    assert str(tmp_path / 'train' / kind / 'b') in message
    assert str(tmp_path / 'train' / other / 'b') in message


@pytest.mark.parametrize('gone, left', [('GT', 'blur'), ('blur', 'GT')])
def test_frame_without_partner(dataset, tmp_path, gone, left):
    (tmp_path / 'train' / gone / 'b/00001.png').unlink()
    message = complaint(dataset)
    assert message.startswith(str(tmp_path / 'train' / left / 'b/00001.png'))
    assert f'in {tmp_path / "train" / gone / "b"} ' in message


def test_clip_that_is_too_short(dataset, tmp_path):
    dataset.num_input_frames = 4
    message = complaint(dataset)
    assert str(tmp_path / 'train/blur/a') in message and 'num_input_frames' in message


@pytest.mark.parametrize(
    'template, named', [('{:05d}.png', '00001.png'), ('{:06d}.png', '000000.png')]
)
def test_numbers_with_a_gap(dataset, tmp_path, template, named):
    dataset.pipeline = [dict(type='GenerateSegmentIndices', filename_tmpl='{:05d}.png')]
    check_frame_folders(dataset)
    for kind in ('blur', 'GT'):
        folder = tmp_path / 'train' / kind / 'b'
        (folder / '00001.png').rename(folder / '00003.png')
    dataset.num_input_frames = 2
    dataset.pipeline[0].filename_tmpl = template
    clip = 'b' if template == '{:05d}.png' else 'a'
    assert f'{tmp_path}/train/blur/{clip}/{named}: missing' in complaint(dataset)
    dataset.pipeline = []  # any names will do
    check_frame_folders(dataset)


def load(*paths):
    transform = LoadFrames(key='img', channel_order='rgb')
    return transform({'img_path': [str(path) for path in paths]})


def test_load_frames_reads_what_was_written(dataset, tmp_path):
    path = tmp_path / 'colour.png'
    cv2.imwrite(str(path), np.full((4, 5, 3), (1, 2, 3), np.uint8))  # BGR
    frame = load(path)['img'][0]
    assert frame.shape == (4, 5, 3) and tuple(frame[0, 0]) == (3, 2, 1)


@pytest.mark.parametrize('content', [b'', b'text', 'truncated'])
def test_load_frames_names_a_broken_frame(dataset, tmp_path, content):
    path = tmp_path / 'train/blur/a/00001.png'
    path.write_bytes(path.read_bytes()[:50] if content == 'truncated' else content)
    with pytest.raises(UserError, match='not a readable image') as error:
        load(tmp_path / 'train/blur/a/00000.png', path)
    assert str(path) in str(error.value)


def test_load_frames_names_a_missing_frame(dataset, tmp_path):
    with pytest.raises(UserError, match='no such frame'):
        load(tmp_path / 'train/blur/a/00007.png')


def test_load_frames_names_a_frame_of_another_size(dataset, tmp_path):
    path = tmp_path / 'train/blur/a/00002.png'
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match='8 x 8 pixels, but the clip starts with 24 x 16') as error:
        load(path.with_name('00000.png'), path)
    assert str(path) in str(error.value)
