"""MMagic's own inferencer runs the plugin's model with its tiles and clips."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from bsst_plugin.inference import Tiling, deblur_clips

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny_config import render_tiny_dataset, write_tiny_config  # noqa: E402


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory):
    """The inferencer, and a folder of five blurry frames of 64 x 64."""
    from mmagic.apis import MMagicInferencer

    folder = tmp_path_factory.mktemp('inferencer')
    data = render_tiny_dataset(folder / 'data')
    config = Config.fromfile(write_tiny_config(folder / 'tiny.py', data))
    config.model.test_cfg = dict(tile=48, overlap=16, merge='smooth')
    config.dump(folder / 'tiled.py')
    inferencer = MMagicInferencer(
        model_name='basicvsr_pp',
        model_config=str(folder / 'tiled.py'),
        model_ckpt='',
        device='cpu',
        extra_parameters=dict(filename_tmpl='{:05d}.png'),
    )
    (video,) = (data / 'test/blur').iterdir()
    return inferencer, video


def read(folder):
    """Frames (t, 3, h, w), RGB in [0, 1]."""
    frames = [cv2.imread(str(path))[..., ::-1] for path in sorted(folder.glob('*.png'))]
    return torch.from_numpy(np.stack(frames)).movedim(-1, 1) / 255


@pytest.mark.slow
def test_folder_of_frames(inferencer, tmp_path):
    inferencer, video = inferencer
    generator = inferencer.inferencer.inferencer.model.generator
    expected = deblur_clips(generator, read(video)[None], tiling=Tiling(48, 16, 'smooth'))[0]
    inferencer.infer(video=str(video), result_out_dir=str(tmp_path / 'out'))
    torch.testing.assert_close(read(tmp_path / 'out'), expected.clamp(0, 1), atol=0.003, rtol=0)


@pytest.mark.slow
def test_video_file(inferencer, tmp_path):
    inferencer, video = inferencer
    source, result = tmp_path / 'in.mp4', tmp_path / 'out.mp4'
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 64))
    for frame in sorted(video.glob('*.png')):
        writer.write(cv2.imread(str(frame)))
    writer.release()
    inferencer.infer(video=str(source), result_out_dir=str(result))
    assert cv2.VideoCapture(str(result)).get(cv2.CAP_PROP_FRAME_COUNT) == 5
