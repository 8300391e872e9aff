import cv2
import numpy as np
import pytest
from mmagic.registry import DATASETS
from mmengine.registry import init_default_scope

from bsst_plugin.datasets import VideoWindows, video_windows
from bsst_plugin.errors import UserError
from bsst_plugin.inference import scored_windows

LENGTHS = {'GOPR0001': 20, 'b.with.dots': 12, 'c': 3, 'd': 8}
META = ['video', 'window', 'first_frame', 'scored_frames']
PIPELINE = [
    dict(type='LoadFrames', key='img', channel_order='rgb'),
    dict(type='LoadFrames', key='gt', channel_order='rgb'),
    dict(type='PackInputs', meta_keys=META),
]


@pytest.fixture(autouse=True, scope='module')
def mmagic_scope():
    init_default_scope('mmagic')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Videos whose frames say which they are: blurry (video, frame, 0), sharp (video, frame, 1)."""
    root = tmp_path_factory.mktemp('data')
    for kind, name in enumerate(('blur', 'GT')):
        for video, (folder, length) in enumerate(LENGTHS.items()):
            path = root / 'test' / name / folder
            path.mkdir(parents=True)
            (path / '.hidden').touch()
            for frame in range(length):
                image = np.full((4, 6, 3), (kind, frame, video), np.uint8)  # OpenCV writes BGR
                cv2.imwrite(str(path / f'{frame:05d}.png'), image)
        (root / 'test' / name / 'readme.txt').touch()
    return root


def build(root, **settings):
    prefix = dict(img='test/blur', gt='test/GT')
    arguments = dict(data_root=str(root), data_prefix=prefix, pipeline=PIPELINE, num_frames=8)
    return DATASETS.build(dict(type='VideoWindows', **{**arguments, **settings}))


def test_samples_are_the_windows_of_all_videos(root):
    dataset = build(root)
    expected = [
        (video, name, index, window)
        for video, (name, length) in enumerate(LENGTHS.items())
        for index, window in enumerate(scored_windows(length, 8))
    ]
    assert len(dataset) == len(expected) == 4 + 2 + 1 + 1
    for sample, (video, name, index, window) in zip(dataset, expected, strict=True):
        meta = sample['data_samples'].metainfo
        assert (meta['video'], meta['window']) == (name, index)
        assert meta['first_frame'] == window.frames.start
        assert [meta['first_frame'] + i for i in meta['scored_frames']] == list(window.scored)
        frames = range(window.frames.start, window.frames.stop)
        for kind, clip in enumerate((sample['inputs'], sample['data_samples'].gt_img)):
            assert clip.shape == (len(frames), 3, 4, 6)
            # Red says which video, green which frame, blue blurry or sharp.
            assert clip[:, :, 0, 0].tolist() == [[video, frame, kind] for frame in frames]


def test_only_the_frames_of_a_window_are_named(root):
    info = build(root).get_data_info(1)
    names = [f'{frame:05d}.png' for frame in range(4, 12)]
    assert info['img_path'] == [str(root / 'test/blur/GOPR0001' / name) for name in names]
    assert info['gt_path'] == [str(root / 'test/GT/GOPR0001' / name) for name in names]


def test_keys_are_unique(root):
    dataset = build(root)
    keys = {dataset.get_data_info(index)['key'] for index in range(len(dataset))}
    assert len(keys) == len(dataset)


def test_a_video_too_short_to_leave_a_frame_is_scored_whole_with_a_warning(root, monkeypatch):
    said = []
    monkeypatch.setattr(video_windows, 'print_log', lambda line, **_: said.append(line))
    dataset = build(root)
    assert [line.split(':')[0] for line in said] == [str(root / 'test/blur/c')]
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    (short,) = [info for info in infos if info['video'] == 'c']
    assert short['scored_frames'] == [0, 1, 2]


def test_protocol_is_the_default(root):
    dataset = VideoWindows(str(root), dict(img='test/blur', gt='test/GT'), [])
    assert (dataset.num_frames, dataset.margin) == (48, 2)
    assert len(dataset) == len(LENGTHS)  # all are shorter than 48
    assert dataset.metainfo['task_name'] == 'deblur'


@pytest.mark.parametrize('num_frames', [0, 4])
def test_windows_without_scored_frames(root, num_frames):
    with pytest.raises(UserError, match=f'num_frames={num_frames}'):
        build(root, num_frames=num_frames)


def test_missing_and_empty_folders(root, tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / 'test/blur')):
        build(tmp_path)
    (tmp_path / 'test/blur/empty').mkdir(parents=True)
    with pytest.raises(UserError, match='holds no videos'):
        build(tmp_path)
