import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmagic.evaluation import Evaluator
from mmagic.evaluation.metrics.ssim import ssim
from mmagic.registry import METRICS, MODELS
from mmagic.structures import DataSample
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from scipy.ndimage import gaussian_filter

from bsst_plugin.errors import UserError
from bsst_plugin.evaluation import deblurring_metrics, gaussian_ssim
from bsst_plugin.inference import scored_windows

LENGTHS = {'a': 13, 'b': 3, 'c': 8}
NAMES = ('PSNR', 'SSIM', 'GaussianSSIM')


def make_samples():
    """Predictions for windows of 8 frames, blurry and output closer and closer to sharp."""
    samples = []
    for seed, (video, length) in enumerate(LENGTHS.items()):
        rng = np.random.RandomState(seed)
        sharp = gaussian_filter(rng.rand(length, 3, 24, 30), (0, 0, 2, 2))
        sharp = 255 * (sharp - sharp.min()) / (sharp.max() - sharp.min())
        sharp = torch.from_numpy(sharp.round()).float()
        noise = torch.from_numpy(rng.randn(*sharp.shape)).float()
        for index, window in enumerate(scored_windows(length, 8)):
            clip = sharp[window.frames]
            offset = noise[window.frames] * (4 + 3 * index)
            scored = [frame - window.frames.start for frame in window.scored]
            samples.append(
                dict(
                    video=video,
                    window=index,
                    first_frame=window.frames.start,
                    scored_frames=scored,
                    gt_img=clip,
                    # Beyond [0, 255] in places, as a network's output may be.
                    output=dict(pred_img=clip + offset, input=(clip + 2 * offset).clamp(0, 255)),
                )
            )
    return samples


def literal(samples, key):
    """The protocol, frame by frame: values by video and window."""
    values = {}
    for sample in samples:
        for index in sample['scored_frames']:
            sharp = sample['gt_img'][index].permute(1, 2, 0).numpy().astype(np.float64)
            image = sample['output'][key][index].permute(1, 2, 0).numpy()
            image = np.rint(np.clip(image, 0, 255)).astype(np.float64)
            error = ((sharp - image) ** 2).mean()
            pair = sharp.astype(np.uint8), image.astype(np.uint8)
            frame = (10 * np.log10(255**2 / error), ssim(*pair), gaussian_ssim(*pair))
            values.setdefault((sample['video'], sample['window']), []).append(frame)
    return values


def build(samples, **settings):
    metric = METRICS.build(dict(type='DeblurringMetrics', **settings))
    metric.size = sum(len(scored_windows(length, 8)) for length in LENGTHS.values())
    for sample in samples:
        metric.process(None, [sample])
    return metric


def test_equals_a_literal_loop():
    samples = make_samples()
    metrics = build(samples).evaluate()
    assert len(samples) == 5 and len(metrics) == 4 * len(NAMES)
    for prefix, key in (('', 'pred_img'), ('input/', 'input')):
        values = literal(samples, key)
        by_window = np.mean([np.mean(frames, 0) for frames in values.values()], 0)
        videos = [
            np.mean(sum((f for (name, _), f in values.items() if name == video), []), 0)
            for video in LENGTHS
        ]
        for column, name in enumerate(NAMES):
            assert metrics[prefix + name] == pytest.approx(by_window[column], rel=1e-5)
            mean = np.mean(videos, 0)[column]
            assert metrics[f'video_mean/{prefix}{name}'] == pytest.approx(mean, rel=1e-5)
    assert metrics['PSNR'] != pytest.approx(metrics['video_mean/PSNR'], abs=0.01)
    assert metrics['PSNR'] > metrics['input/PSNR'] + 3


def test_frames_that_are_not_scored_do_not_count():
    samples = make_samples()
    expected = build(samples).evaluate()
    for sample in samples:
        others = sorted(set(range(len(sample['gt_img']))) - set(sample['scored_frames']))
        sample['output']['pred_img'][others] = 0
        sample['output']['input'][others] = 0
    assert build(samples).evaluate() == expected


def test_one_frame_is_a_window():
    """MMagic packs it as an image."""
    scores = []
    for place in (slice(0, 1), 0):
        window = dict(make_samples()[0], window=0, first_frame=0, scored_frames=[0])
        window['gt_img'] = window['gt_img'][place]
        window['output'] = {name: clip[place] for name, clip in window['output'].items()}
        metric = METRICS.build(dict(type='DeblurringMetrics'))
        metric.process(None, [window])
        scores.append(metric.results[0]['scores'])
    assert scores[0] == scores[1] and len(scores[0]['PSNR']) == 1


def test_windows_given_twice_count_once():
    samples = make_samples()
    expected = build(samples).evaluate()
    assert build([*samples[::-1], samples[0], samples[2]]).evaluate() == expected


def test_missing_windows_are_not_passed_over_in_silence(monkeypatch):
    said = []
    monkeypatch.setattr(deblurring_metrics, 'print_log', lambda line, **_: said.append(line))
    build(make_samples()).evaluate()
    assert not any('the dataset has' in line for line in said)
    build(make_samples()[:-1]).evaluate()
    assert any('4 windows were scored, but the dataset has 5' in line for line in said)


@pytest.mark.parametrize('prefix, file', [(None, 'results.json'), ('DVD', 'results_DVD.json')])
def test_results_are_written_beside_the_log(tmp_path, prefix, file):
    MMLogger.get_instance(f'test_results_{prefix}', log_file=str(tmp_path / 'run.log'))
    samples = make_samples()
    metrics = build(samples, prefix=prefix).evaluate()
    results = json.loads((tmp_path / file).read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == [file, 'run.log']
    start = f'{prefix}/' if prefix else ''
    assert results['mean_over_windows']['PSNR'] == metrics[f'{start}PSNR']
    assert results['mean_over_videos']['input/SSIM'] == metrics[f'{start}video_mean/input/SSIM']
    assert {name: video['frames'] for name, video in results['videos'].items()} == dict(
        a=9, b=3, c=4
    )
    values = literal(samples, 'pred_img')
    for window in results['windows']:
        frames = values[window['video'], window['window']]
        assert window['scores']['PSNR'] == pytest.approx([psnr for psnr, *_ in frames], rel=1e-5)
    assert [w['frames'] for w in results['windows'] if w['video'] == 'a'] == [
        [2, 3, 4, 5],
        [6, 7, 8, 9],
        [10],
    ]
    # The table: a row for each video and each mean.
    log = (tmp_path / 'run.log').read_text().splitlines()
    for row in (*LENGTHS, 'mean over windows', 'mean over videos'):
        assert sum(line.startswith(row) for line in log) == 1
    (row,) = [line for line in log if line.startswith('b ')]
    video = results['videos']['b']
    assert row.split()[1:4] == ['3', f'{video["PSNR"]:.4f}', f'({video["input/PSNR"]:.4f})']


def test_samples_of_another_dataset_are_named():
    sample = make_samples()[0]
    del sample['scored_frames']
    with pytest.raises(UserError, match='scored_frames.*VideoWindows'):
        build([sample])


class Same(torch.nn.Module):
    def forward(self, lqs):
        return lqs


def test_works_with_mmagics_evaluator_and_the_model():
    if 'SameFrames' not in MODELS:
        MODELS.register_module(name='SameFrames', module=Same)
    model = MODELS.build(
        dict(
            type='VideoDeblurrer',
            generator=dict(type='SameFrames'),
            test_cfg=dict(tile=32, overlap=8),
            data_preprocessor=dict(type='mmagic.DataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3),
        )
    ).eval()
    init_default_scope('mmagic')
    evaluator = Evaluator([dict(type='DeblurringMetrics')])
    samples = make_samples()
    loader = torch.utils.data.DataLoader(samples)
    evaluator.prepare_metrics(model, loader)
    for sample in samples:
        blurry, meta = sample['output']['input'].round(), dict(sample)
        gt_img, _ = meta.pop('gt_img'), meta.pop('output')
        batch = dict(inputs=[blurry], data_samples=[DataSample(gt_img=gt_img, metainfo=meta)])
        evaluator.process(model.val_step(batch), batch, evaluator.metrics)
    metrics = evaluator.evaluate()
    expected = literal(samples, 'input')
    for name in NAMES:
        assert metrics[name] == metrics[f'input/{name}']
    mean = np.mean([np.mean(frames, 0) for frames in expected.values()], 0)
    assert metrics['PSNR'] == pytest.approx(mean[0], rel=1e-5)


def gather(rank, metric, folder):
    """One of two processes: evaluate, and leave the metrics in a file."""
    os.chdir(folder)  # MMEngine makes its temporary folder here
    store = f'file://{folder}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    Path(f'out{rank}.json').write_text(json.dumps(metric.evaluate()))
    torch.distributed.destroy_process_group()


def test_two_processes_count_every_window_once(tmp_path):
    samples = make_samples()
    # Five windows: the sampler gives one to both processes.
    parts = [[samples[i] for i in indices] for indices in ((0, 2, 4), (1, 3, 0))]
    # Forked after scoring, so that the processes import nothing again and only gather.
    fork = multiprocessing.get_context('fork')
    workers = [
        fork.Process(target=gather, args=(rank, build(part), tmp_path))
        for rank, part in enumerate(parts)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    expected = build(samples).evaluate()
    for rank in (0, 1):
        assert json.loads((tmp_path / f'out{rank}.json').read_text()) == expected
