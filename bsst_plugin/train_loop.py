"""The training loop."""

from mmagic.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from bsst_plugin.datasets.resumable import ResumableSampler
from bsst_plugin.errors import UserError


@LOOPS.register_module()
class ResumableTrainLoop(IterBasedTrainLoop):
    """MMEngine's ``IterBasedTrainLoop`` that resumes at once, with the batches still to come.

    Takes the same arguments. The dataloader needs a ``ResumableSampler`` and a dataset with
    ``seeded_sample``: ``SeededFramesDataset`` or ``RenderedClips``.

    Raises:
        UserError: The dataloader has another sampler, or another dataset.
    """

    def run(self) -> nn.Module:
        """Train."""
        sampler = self.dataloader.sampler
        if not isinstance(sampler, ResumableSampler):
            raise UserError(
                'train_dataloader.sampler: ResumableTrainLoop needs a ResumableSampler, not '
                f'{type(sampler).__name__}'
            )
        dataset = self.dataloader.dataset
        if not hasattr(dataset, 'seed'):  # wrappers of datasets do not know what a place is
            raise UserError(
                'train_dataloader.dataset: ResumableTrainLoop needs a dataset with seeded_sample '
                f'and its seed, as SeededFramesDataset or RenderedClips, not '
                f'{type(dataset).__name__}; IterBasedTrainLoop with InfiniteSampler takes that'
            )
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        sampler.start = self._iter * self.dataloader.batch_size
        self.dataloader_iterator = iter(self.dataloader)  # the sampler never ends
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if self._validates_now():
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def end_now(self) -> None:
        """Make the iteration that runs the last one: its checkpoint is saved as the last one."""
        self._max_iters = self._iter + 1

    def _validates_now(self) -> bool:
        """Whether it is time for validation, as in MMEngine."""
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters
