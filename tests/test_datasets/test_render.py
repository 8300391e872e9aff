import json

import cv2
import numpy as np
import pytest

import bsst_plugin.datasets.render as render_module
from bsst_plugin.datasets import (
    TEST_PHOTOGRAPHS,
    BlurSettings,
    render_dataset,
)
from bsst_plugin.errors import UserError

SETTINGS = BlurSettings(num_frames=3, size=32, blur=(3, 6))
CLIPS = {'train': 2, 'test': 2}


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def render(dst, photos=None, seed=0, **changes):
    return render_dataset(dst, photos, CLIPS, SETTINGS, seed, progress=False, **changes)


def test_layout_and_determinism(tmp_path, photos):
    assert render(tmp_path / 'a', photos) and render(tmp_path / 'b', photos)
    assert render(tmp_path / 'c', photos, seed=1)
    a, b, c = (content(tmp_path / name) for name in 'abc')
    assert a == b
    images = [name for name in a if name.endswith('.png')]
    assert len(images) == 2 * 2 * 2 * 3
    assert {name.rsplit('/', 1)[1] for name in images} == {'00000.png', '00001.png', '00002.png'}
    for split in CLIPS:
        videos = [sorted((tmp_path / 'a' / split / kind).iterdir()) for kind in ('blur', 'GT')]
        assert [v.name for v in videos[0]] == [v.name for v in videos[1]]
        assert all('.' not in video.name for video in videos[0])
    assert not (tmp_path / 'a' / '.partial').exists()
    assert all(a[name] != c[name] for name in images if name in c)
    assert cv2.imread(str(tmp_path / 'a' / images[0])).shape == (32, 32, 3)


def test_clip_does_not_depend_on_how_many_there_are(tmp_path, photos):
    render(tmp_path / 'few', photos)
    render_dataset(tmp_path / 'more', photos, {'train': 3}, SETTINGS, progress=False)
    few, more = content(tmp_path / 'few' / 'train'), content(tmp_path / 'more' / 'train')
    assert few.items() <= more.items()


def test_read_by_mmagic(tmp_path):
    from mmagic.datasets import BasicFramesDataset

    render(tmp_path / 'data')
    dataset = BasicFramesDataset(
        data_root=str(tmp_path / 'data' / 'test'),
        data_prefix=dict(img='blur', gt='GT'),
        pipeline=[
            dict(
                type='mmagic.GenerateSegmentIndices', interval_list=[1], filename_tmpl='{:05d}.png'
            ),
            dict(type='mmagic.LoadImageFromFile', key='img', channel_order='rgb'),
            dict(type='mmagic.LoadImageFromFile', key='gt', channel_order='rgb'),
            dict(type='mmagic.PackInputs'),
        ],
    )
    assert len(dataset) == 2
    item = dataset[0]
    assert item['inputs'].shape == item['data_samples'].gt_img.shape == (3, 3, 32, 32)
    video = tmp_path / 'data' / 'test' / 'GT' / dataset.get_data_info(0)['key']
    last = cv2.imread(str(video / '00002.png'))[..., ::-1]
    np.testing.assert_array_equal(item['data_samples'].gt_img[2].permute(1, 2, 0), last)


def test_test_photographs_never_appear_in_train(tmp_path, photos, monkeypatch):
    loaded = {}
    load, job_render = render_module.Photograph.load, render_module._Job.render
    job = None

    def spy_render(self, settings, seed):
        nonlocal job
        job = self
        job_render(self, settings, seed)

    def spy_load(self):
        loaded.setdefault(job.split, set()).add(self.path)
        return load(self)

    monkeypatch.setattr(render_module._Job, 'render', spy_render)
    monkeypatch.setattr(render_module.Photograph, 'load', spy_load)
    monkeypatch.setattr(render_module.os, 'cpu_count', lambda: 1)
    clips = {'train': 8, 'test': 8}
    for source in (None, photos):
        loaded.clear()
        render_dataset(tmp_path / f'{source is None}', source, clips, SETTINGS, progress=False)
        assert loaded['train'] and loaded['test']
        assert not loaded['train'] & loaded['test']
        if source is None:
            assert {path.name for path in loaded['test']} <= set(TEST_PHOTOGRAPHS)


def test_nothing_is_done_twice_or_overwritten(tmp_path, photos, write_photo):
    dst = tmp_path / 'data'
    assert render(dst, photos) is True
    before = {path: path.stat().st_mtime_ns for path in dst.rglob('*')}
    assert render(dst, photos) is False
    with pytest.raises(UserError, match=r'data: rendered with seed 0; choose another folder'):
        render(dst, photos, seed=1)
    with pytest.raises(UserError, match='rendered with other photographs'):
        write_photo(photos / 'new.png', 77)
        render(dst, photos)
    (dst / 'render.json').write_text('{')
    with pytest.raises(UserError, match='rendered with another render.json'):
        render(dst, photos)
    (dst / 'render.json').unlink()
    with pytest.raises(UserError, match='not empty, and not rendered by this tool'):
        render(dst, photos)
    after = {path: path.stat().st_mtime_ns for path in dst.rglob('*.png')}
    assert after.items() <= before.items()
    with pytest.raises(UserError, match='a file'):
        render(photos / 'stamp.png', photos)


@pytest.mark.parametrize('stop_at', range(1, 12, 3))
def test_interrupted(tmp_path, photos, monkeypatch, stop_at):
    encode, calls = cv2.imencode, 0

    def failing(*args):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        return encode(*args)

    render(tmp_path / 'whole', photos)
    monkeypatch.setattr(render_module.cv2, 'imencode', failing)
    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / 'cut', photos)
    for video in (tmp_path / 'cut').glob('t*/*/*'):  # train and test, not what is unfinished
        assert len(list(video.iterdir())) == 3  # never half a clip
    assert render(tmp_path / 'cut', photos) is True
    assert content(tmp_path / 'cut') == content(tmp_path / 'whole')


def test_record_tells_what_was_rendered(tmp_path, photos):
    render(tmp_path / 'data', photos, seed=3)
    record = json.loads((tmp_path / 'data' / 'render.json').read_text())
    assert record['seed'] == 3 and record['clips'] == CLIPS
    assert record['settings']['num_frames'] == 3
    named = [set(record['photographs'][split].values()) for split in ('train', 'test')]
    assert len(named[0] | named[1]) == 9 and not named[0] & named[1]
