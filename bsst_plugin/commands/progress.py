"""How far a video is."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn


def progress_bar(console: Console) -> Progress:
    """A bar with frames done, their rate in this run, and the time that is left."""
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.completed:.0f} of {task.total:.0f}'),
        _Rate(''),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=600,
    )


class _Rate(TextColumn):
    """Frames per second of this run."""

    def render(self, task: Task) -> Any:
        begun = task.fields.get('begun', 0)
        if task.elapsed and task.completed > begun:
            self.text_format = f'{(task.completed - begun) / task.elapsed:.2f} frames/s'
        return super().render(task)
