"""Hooks for training: how it starts, what ends it, and what it shows."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmagic.registry import HOOKS
from mmagic.structures import DataSample
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from bsst_plugin.errors import UserError
from bsst_plugin.models.flow.base import read_or_download
from bsst_plugin.train_loop import ResumableTrainLoop

#: What a checkpoint of a run with a time budget calls the time trained, under ``runtime_info`` of
#: its ``message_hub``.
TRAINED_SECONDS = 'trained_seconds'
# --resume would take the rate from the checkpoint.
LOWER_RATE = (
    'go on from the last checkpoint with a lower rate in a new --work-dir: --cfg-options '
    'load_from=FILE optim_wrapper.optimizer.lr=RATE'
)


@HOOKS.register_module()
class PretrainedPart(Hook):
    """Start one part of the model from weights of its own.

    They are read when training starts, not when the model is built, and only if it starts afresh:
    a run that resumes, or that has ``load_from``, holds them already.

    Args:
        part: The part, for instance ``generator.spynet``.
        checkpoint: File or address of its weights.
    """

    def __init__(self, part: str, checkpoint: str) -> None:
        self.part, self.checkpoint = part, checkpoint

    def before_train(self, runner: Runner) -> None:
        """Load the weights.

        Args:
            runner: The runner, its own checkpoint loaded.

        Raises:
            UserError: They cannot be had, or are those of another network.
        """
        if runner.iter > 0 or runner.cfg.get('load_from'):
            return
        part = _bare(runner.model).get_submodule(self.part)
        found = part.load_state_dict(read_or_download(self.checkpoint), strict=False)
        # Constants that are buffers are missing in some files.
        missing = set(found.missing_keys) & {name for name, _ in part.named_parameters()}
        if missing or found.unexpected_keys:
            raise UserError(
                f'{self.checkpoint}: not the weights of {self.part}; {len(missing)} of its tensors '
                f'are missing and {len(found.unexpected_keys)} others are there'
            )


@HOOKS.register_module()
class FrozenStart(Hook):
    """Keep some parameters as they are in the first iterations.

    In distributed training the config needs ``find_unused_parameters = True``.

    Args:
        keys: Parameters whose name holds one of these.
        iters: Iterations before they are trained.
    """

    def __init__(self, keys: Sequence[str], iters: int) -> None:
        self.keys, self.iters = tuple(keys), iters

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Freeze the parameters, or free them.

        Args:
            runner: The runner.
            batch_idx: Not used.
            data_batch: Not used.

        Raises:
            UserError: No parameter has such a name.
        """
        parameters = [
            parameter
            for name, parameter in _bare(runner.model).named_parameters()
            if any(key in name for key in self.keys)
        ]
        if not parameters:
            raise UserError(f'FrozenStart: the model has no parameters named {list(self.keys)}')
        for parameter in parameters:
            parameter.requires_grad_(runner.iter >= self.iters)


@HOOKS.register_module()
class TimeBudget(Hook):
    """Train for a given time, with a learning rate that follows from the part of it that is over.

    The rate rises to the optimizer's in the beginning of the time and then falls to zero as half
    a cosine. What counts is the time in the training loop, before an interruption too: a resumed
    run goes on with what is left of it, one whose time is over ends at once. As many iterations
    are trained as the machine can do, so that no two runs are the same.

    Args:
        minutes: The time.
        warmup: Part of it in which the rate rises.

    Raises:
        UserError: One of them is out of range.
    """

    def __init__(self, minutes: float, warmup: float = 0.05) -> None:
        if not (minutes > 0 and 0 < warmup < 1):
            raise UserError(
                f'TimeBudget: minutes={minutes} must be above 0, warmup={warmup} between 0 and 1'
            )
        self.seconds, self.warmup = 60 * minutes, warmup
        self.start = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the clock, at what was trained before.

        Args:
            runner: The runner.

        Raises:
            UserError: The run has another loop, a schedule of its own or several processes.
        """
        if not isinstance(runner.train_loop, ResumableTrainLoop):
            raise UserError("TimeBudget: needs train_cfg = dict(type='ResumableTrainLoop', ...)")
        if runner.param_schedulers:
            raise UserError('TimeBudget: sets the learning rate itself; set param_scheduler = None')
        if get_world_size() > 1:
            raise UserError('TimeBudget: trains in one process; leave out the launcher')
        self.start = time.monotonic() - runner.message_hub.get_info(TRAINED_SECONDS, 0.0)
        if self._trained >= self.seconds:
            runner.train_loop.stop_training = True

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Set the learning rate.

        Args:
            runner: The runner.
            batch_idx: Not used.
            data_batch: Not used.
        """
        rate = self.rate(self._trained / self.seconds)
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = rate * group.setdefault('initial_lr', group['lr'])

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict | None = None,
    ) -> None:
        """Look at the clock; the checkpoint of the last iteration is saved as always.

        Args:
            runner: The runner.
            batch_idx: Not used.
            data_batch: Not used.
            outputs: Not used.
        """
        runner.message_hub.update_info(TRAINED_SECONDS, self._trained)
        if self._trained >= self.seconds:
            runner.train_loop.end_now()

    def rate(self, part: float) -> float:
        """The learning rate, as a part of the optimizer's, when a part of the time is over."""
        if part < self.warmup:
            return max(part / self.warmup, 0.01)
        return (1 + math.cos(math.pi * min((part - self.warmup) / (1 - self.warmup), 1))) / 2

    @property
    def _trained(self) -> float:
        return time.monotonic() - self.start


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """End training when the loss or a weight is not a finite number.

    Such weights are never saved. Gradients are not looked at: those of mixed precision are scaled
    and may overflow, upon which the scaler leaves out the step.
    """

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Look at the loss.

        Args:
            runner: The runner.
            batch_idx: Not used.
            data_batch: The batch, to name its samples.
            outputs: Holds ``loss``.

        Raises:
            UserError: It is infinite or not a number.
        """
        loss = float(torch.as_tensor((outputs or {}).get('loss', 0.0)).detach())
        if not math.isfinite(loss):
            raise UserError(
                f'iteration {runner.iter + 1}: the loss is {loss}, on {_name_samples(data_batch)}; '
                f'if these frames are in order, {LOWER_RATE}'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the weights.

        Args:
            runner: The runner.
            checkpoint: What is about to be saved.

        Raises:
            UserError: One of them is infinite or not a number.
        """
        for name, value in checkpoint['state_dict'].items():
            if not torch.isfinite(value).all():
                raise UserError(
                    f'iteration {runner.iter + 1}: {name} is not finite any more and was not '
                    f'saved; {LOWER_RATE}'
                )


@HOOKS.register_module()
class ComparisonImages(Hook):
    """Show some frames at each validation, blurry, output and sharp, through the visualizer.

    It has to be MMagic's ``ConcatImageVisualizer(fn_key='name', img_keys=['input', 'pred_img',
    'gt_img'])``.

    Args:
        interval: Of the validation samples, the first and then one in so many is shown, with the
            frame in its middle.
    """

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval

    @master_only
    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Sequence[DataSample] | None = None,
    ) -> None:
        """Show a frame.

        Args:
            runner: The runner.
            batch_idx: Which batch.
            data_batch: Not used.
            outputs: The predictions; clips are ``(t, 3, h, w)``.
        """
        if not outputs or batch_idx % self.interval:
            return
        sample = outputs[0]
        images = dict(input=sample.input, pred_img=sample.output.pred_img, gt_img=sample.gt_img)
        shown = DataSample(metainfo=dict(name=f'val_{batch_idx}'))
        shown.set_tensor_data({name: _middle(image) for name, image in images.items()})
        runner.visualizer.add_datasample(shown, step=runner.iter)


def _middle(image: Tensor) -> Tensor:
    return image[len(image) // 2] if image.ndim == 4 else image


def _name_samples(data_batch: dict | None) -> str:
    """The samples of a batch: first and last frame of each clip, or a key."""
    names = []
    for sample in (data_batch or {}).get('data_samples', []):
        paths: Any = sample.get('img_path') or [sample.get('key', 'a sample without a name')]
        paths = [paths] if isinstance(paths, str) else paths
        names.append(paths[0] + (f' to {Path(paths[-1]).name}' if len(paths) > 1 else ''))
    return ' or '.join(names) or 'an unknown sample'


def _bare(model: Any) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
