"""Hooks, with a runner that only counts; see test_tools/test_faults.py for real runs."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmagic.registry import HOOKS, VISUALIZERS
from mmagic.structures import DataSample
from mmagic.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MessageHub

from bsst_plugin.errors import UserError
from bsst_plugin.hooks import TRAINED_SECONDS, TimeBudget
from bsst_plugin.train_loop import ResumableTrainLoop

RUNTIME = Path(__file__).resolve().parents[1] / 'configs/_base_/default_runtime.py'
RUNNER = SimpleNamespace(iter=6)
FRAMES = [f'data/train/blur/GOPR0372/{i:05d}.png' for i in (3, 4, 5)]


@pytest.fixture
def finite():
    return HOOKS.build(dict(type='FiniteLossHook'))


def batch(*metainfos):
    return dict(data_samples=[DataSample(metainfo=metainfo) for metainfo in metainfos])


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_loss_that_is_not_finite(finite, value):
    data = batch(dict(img_path=FRAMES), dict(key='train_000007'))
    with pytest.raises(UserError) as error:
        finite.after_train_iter(RUNNER, 0, data, dict(loss=torch.tensor(value)))
    message = str(error.value)
    assert '\n' not in message
    assert message.startswith(f'iteration 7: the loss is {value}, on {FRAMES[0]} to 00005.png or')
    assert 'train_000007' in message and 'load_from=FILE' in message


def test_sample_without_a_name(finite):
    for data in (None, {}, batch({})):
        with pytest.raises(UserError, match='iteration 7: .* a'):
            finite.after_train_iter(RUNNER, 0, data, dict(loss=float('nan')))


def test_finite_loss_passes(finite):
    large = torch.tensor(65504.0, dtype=torch.float16)  # times any loss scale it overflows
    for loss in (0.5, torch.tensor(0.5), large):
        finite.after_train_iter(RUNNER, 0, batch(dict(img_path=FRAMES)), dict(loss=loss))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_such_weights_are_not_saved(finite, value):
    state = dict(first=torch.ones(2), count=torch.tensor(3), second=torch.tensor([1.0, value]))
    with pytest.raises(UserError, match='iteration 7: second is not finite'):
        finite.before_save_checkpoint(RUNNER, dict(state_dict=state))
    del state['second']
    finite.before_save_checkpoint(RUNNER, dict(state_dict=state))


def test_comparison_shows_the_middle_frame(tmp_path):
    register_all_modules(init_default_scope=True)
    cfg = Config.fromfile(RUNTIME)
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    visualizer = VISUALIZERS.build(dict(cfg.visualizer, save_dir=str(tmp_path), name='comparison'))
    # What MMagic's models hand out is BGR, as OpenCV reads it.
    clips = torch.randint(0, 256, (3, 5, 3, 16, 24)).float()
    sample = DataSample(input=clips[0], gt_img=clips[2], output=DataSample(pred_img=clips[1]))
    hook = HOOKS.build(cfg.default_hooks.comparison)
    runner = SimpleNamespace(iter=500, visualizer=visualizer)
    for index in range(hook.interval + 1):
        hook.after_val_iter(runner, index, None, [sample])
    shown = sorted(tmp_path.rglob('*.png'))
    assert [path.name for path in shown] == ['val_0_500.png', f'val_{hook.interval}_500.png']
    expected = torch.cat(list(clips[:, 2]), dim=2).permute(1, 2, 0).numpy().astype(np.uint8)
    assert np.array_equal(cv2.imread(str(shown[0])), expected)


@pytest.fixture
def clock(monkeypatch):
    """A clock to set, in seconds."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr('bsst_plugin.hooks.time.monotonic', lambda: now.seconds)
    return now


def budget_runner(trained=0.0, schedulers=None):
    loop = object.__new__(ResumableTrainLoop)
    loop.stop_training, loop._iter, loop._max_iters = False, 6, 1000
    groups = [dict(lr=1e-3), dict(lr=1e-4)]
    hub = MessageHub(name=f'budget_{trained}')
    if trained:
        hub.update_info(TRAINED_SECONDS, trained)
    optim_wrapper = SimpleNamespace(param_groups=groups)
    return SimpleNamespace(
        train_loop=loop, message_hub=hub, optim_wrapper=optim_wrapper, param_schedulers=schedulers
    )


def rates(runner):
    return [group['lr'] for group in runner.optim_wrapper.param_groups]


def test_rate_follows_the_time_that_is_over(clock):
    hook, runner = TimeBudget(minutes=10, warmup=0.1), budget_runner()
    hook.before_train(runner)
    expected = {0: 0.01, 30: 0.5, 60: 1.0, 330: 0.5, 600: 0.0, 700: 0.0}
    for seconds, rate in expected.items():
        clock.seconds = 100 + seconds
        hook.before_train_iter(runner, 0)
        assert rates(runner) == pytest.approx([1e-3 * rate, 1e-4 * rate], abs=1e-12), seconds


def test_training_ends_when_its_time_is_over(clock):
    hook, runner = TimeBudget(minutes=1), budget_runner()
    hook.before_train(runner)
    clock.seconds += 59
    hook.after_train_iter(runner, 6)
    assert runner.train_loop.max_iters == 1000
    clock.seconds += 1
    hook.after_train_iter(runner, 6)
    assert runner.train_loop.max_iters == 7  # the iteration of index 6 was the last one
    assert runner.message_hub.get_info(TRAINED_SECONDS) == 60


def test_time_before_an_interruption_counts(clock):
    hook, runner = TimeBudget(minutes=1), budget_runner(trained=45.0)
    runner.optim_wrapper.param_groups[0].update(lr=1e-9, initial_lr=1e-3)  # from the checkpoint
    hook.before_train(runner)
    assert not runner.train_loop.stop_training
    hook.before_train_iter(runner, 6)
    assert rates(runner)[0] == pytest.approx(1e-3 * hook.rate(0.75))
    clock.seconds += 15
    hook.after_train_iter(runner, 6)
    assert runner.train_loop.max_iters == 7


def test_nothing_is_trained_when_the_time_is_over(clock):
    runner = budget_runner(trained=60.5)
    TimeBudget(minutes=1).before_train(runner)
    assert runner.train_loop.stop_training


def test_what_a_budget_does_not_go_with():
    for settings in (dict(minutes=0), dict(minutes=float('nan')), dict(minutes=1, warmup=1)):
        with pytest.raises(UserError, match='TimeBudget: minutes='):
            TimeBudget(**settings)
    with pytest.raises(UserError, match='param_scheduler = None'):
        TimeBudget(minutes=1).before_train(budget_runner(schedulers=[object()]))
    runner = budget_runner()
    runner.train_loop = object()
    with pytest.raises(UserError, match='ResumableTrainLoop'):
        TimeBudget(minutes=1).before_train(runner)
