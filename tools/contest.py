"""Train small networks for the same time, one after the other, and compare them on one page.

    make compare
    make ablation

An interrupted run goes on where it stopped.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bsst_plugin.checkpoints.keep import newest_checkpoint
from bsst_plugin.cli import run
from bsst_plugin.datasets import DEMO_CLIPS, DEMO_SETTINGS, render_demo_clips
from bsst_plugin.errors import UserError
from bsst_plugin.hooks import TRAINED_SECONDS

CONFIGS = Path('configs/contest')
DATA = 'data/demo_clips'
MARK = '<!-- Written by make {}, which replaces it. -->'


@dataclass(frozen=True)
class Contest:
    """What is trained and how its page is called.

    Attributes:
        configs: The configs, in the order of the table.
        page: The page.
        title: Its heading.
        subject: What its first sentence says was compared.
        note: A further line on what it does not show, or nothing.
    """

    configs: Sequence[Path]
    page: Path
    title: str
    subject: str
    note: str = ''


CONTESTS = {
    'compare': Contest(
        [CONFIGS / f'{name}_1m.py' for name in ('bsstnet', 'sst', 'basicvsrpp', 'nafnet', 'vrt')],
        Path('docs/comparison.md'),
        'Five methods, the same minutes',
        'BSSTNet, SST, BasicVSR++, NAFNet and VRT, each with about 1 M parameters,',
        "- BasicVSR++ and VRT get the flow of OpenCV's DIS, as BSSTNet does: their own SPyNet has "
        'to be\n  trained before, and alone has 1.4 M parameters.\n',
    ),
    'ablation': Contest(
        sorted((CONFIGS / 'ablation').glob('table*.py')),
        Path('docs/ablation.md'),
        'Tables 5 to 7 at a small size',
        'the rows of Tables 5 to 7 of the paper, on a BSSTNet of 1 M parameters,',
    ),
}

PAGE = """{mark}
# {title}

Here {subject}
were trained from scratch for {minutes:g} minutes each, on the same rendered clips with the same
crops, batch, loss and optimizer, and tested on clips of photographs that none was trained on.
It ran on {machine}
and all of it comes out of `make {name} MINUTES={minutes:g}`.

{table}

Best in **bold**, second in *italics*; values that look the same share a place. PSNR and both SSIMs
are means over {windows} test clips. GMAC are counted on frames of {size[0]} x {size[1]}.
A frozen flow estimator is in the time, but not in parameters and GMAC. Memory is what the process
grew by in the first clip. Columns marked *published* are the paper's, for the full networks on
other data: with the values beside them they share the method and nothing else.

![PSNR against GMAC and time]({folder}/plot.png)

{pictures}

## What this shows, and what it does not

- It shows that every network trains, is tested and is measured by the same commands, and how much
  each learns in {minutes:g} minutes on this machine.
- It says little about how they rank when they are trained to the end, on GPUs, on real videos and
  with many times the parameters. Networks that learn fast at first are favoured here.
- The same time is not the same number of iterations (see below): a slow network sees fewer clips.
- There is one seed for each, and how far another one moves the numbers was not measured.
- The settings (learning rate, loss, size of crops) are the same for all and tuned for none.
{note}
## How to have it again

`make {name} MINUTES={minutes:g}` renders the clips if they are missing ({clips}),
trains what is not yet trained, and compares. Time decides when training stops, so that a repetition
comes close and is not equal.

| method | iterations | minutes | seed |
|---|---:|---:|---:|
{trained}

```bash
{commands}
```
"""


@dataclass
class Entrant:
    """A network of a contest.

    Attributes:
        config: Its config.
        work_dir: Folder of its training.
        command: What trains it.
    """

    config: Path
    work_dir: Path
    command: list[str]

    @property
    def checkpoint(self) -> Path | None:
        """Its newest checkpoint, from where the work folder is given from."""
        newest = newest_checkpoint(self.work_dir)  # MMEngine notes absolute paths
        return None if newest is None else self.work_dir / newest.name

    def trained(self) -> tuple[int, float]:
        """Iterations and seconds that it was trained for."""
        if self.checkpoint is None:
            return 0, 0.0
        content = torch.load(self.checkpoint, map_location='cpu', weights_only=True)
        seconds = content['message_hub']['runtime_info'].get(TRAINED_SECONDS, 0.0)
        return content['meta']['iter'], float(seconds)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Train networks for the same time and compare.')
    parser.add_argument('contest', choices=sorted(CONTESTS))
    parser.add_argument(
        '--minutes', type=float, default=9, help='time to train each network (default: 9)'
    )
    parser.add_argument(
        '--data', default=DATA, help=f'clips in the layout of GoPro (default: {DATA}, rendered)'
    )
    parser.add_argument(
        '--work-dir', help='folder for the trainings (default: work_dirs/CONTEST_MINUTESmin)'
    )
    parser.add_argument('--page', help='the page (default: in docs/); pictures go beside it')
    args = parser.parse_args(argv)
    if not args.minutes > 0:
        raise UserError(f'--minutes must be above 0, not {args.minutes}')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Render, train, compare, write the page."""
    args, console = parse_args(argv), Console()
    contest, name = CONTESTS[args.contest], args.contest
    page = Path(args.page or contest.page)
    mark = MARK.format(name)
    if page.exists() and not page.read_text('utf-8').startswith(mark):
        raise UserError(f'{page}: not a page that make {name} wrote; give another one as --page')
    if args.data == DATA:
        console.print('Clips to train and test on')
        render_demo_clips(DATA)
    work_dir = Path(args.work_dir or f'work_dirs/{name}_{args.minutes:g}min')
    entrants = [_enter(config, work_dir, args) for config in contest.configs]
    with _progress(console) as bar:
        for entrant in entrants:
            _train(entrant, 60 * args.minutes, bar)
    out = work_dir / 'comparison'
    compare = [
        'python',
        'tools/compare.py',
        *(f'{entrant.config}:{entrant.checkpoint}' for entrant in entrants),
        '--out',
        str(out),
        *_data_options(args.data, 'test'),
    ]
    if not _is_of(out, args.data, entrants):
        shutil.rmtree(out, ignore_errors=True)
        console.print('Testing and measuring, a few minutes')
        _call(compare)
    commands = [*(entrant.command for entrant in entrants), compare]
    _write_page(page, mark, contest, args, out, entrants, commands)
    console.print(f'written: {page} (delete {work_dir} to train again)', soft_wrap=True)


def _is_of(out: Path, data: str, entrants: Sequence[Entrant]) -> bool:
    """Whether a comparison is there, of these clips and of what was trained last."""
    path = out / 'comparison.json'
    if not path.exists():
        return False
    content = json.loads(path.read_text('utf-8'))
    compared = [one['checkpoint'] for one in content['runs']]
    return content['dataset'] == data and compared == [str(one.checkpoint) for one in entrants]


def _enter(config: Path, work_dir: Path, args: argparse.Namespace) -> Entrant:
    folder = work_dir / config.stem
    options = _data_options(args.data, 'train', 'val') or ['--cfg-options']
    command = ['python', 'tools/train.py', str(config), '--resume', '--work-dir', str(folder)]
    command += [*options, f'default_hooks.budget.minutes={args.minutes:g}']
    return Entrant(config, folder, command)


def _data_options(data: str, *splits: str) -> list[str]:
    if data == DATA:  # the configs say so
        return []
    return ['--cfg-options', *(f'{split}_dataloader.dataset.data_root={data}' for split in splits)]


def _progress(console: Console) -> Progress:
    columns = (TextColumn('{task.description}'), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _train(entrant: Entrant, seconds: float, bar: Progress) -> None:
    """Train what is left of the time."""
    done = entrant.trained()[1]
    task = bar.add_task(entrant.config.stem, total=seconds)
    bar.update(task, completed=min(done, seconds))
    if done >= seconds:
        return
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *entrant.command[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while True:
            try:
                _, errors = process.communicate(timeout=2)
                break
            except subprocess.TimeoutExpired:
                elapsed = done + time.monotonic() - begun
                bar.update(task, completed=min(elapsed, seconds))
            except BaseException:
                process.terminate()
                raise
    if process.returncode:
        raise UserError(f'{entrant.config}: {_last_line(errors)}')
    bar.update(task, completed=seconds)


def _call(command: Sequence[str]) -> None:
    done = subprocess.run([sys.executable, *command[1:]], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise UserError(f'{command[1]}: failed, see above')


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ['failed'])[-1].removeprefix('error: ')


def _write_page(
    page: Path,
    mark: str,
    contest: Contest,
    args: argparse.Namespace,
    out: Path,
    entrants: Sequence[Entrant],
    commands: Sequence[Sequence[str]],
) -> None:
    """Write the page and copy its pictures into a folder beside it."""
    content = json.loads((out / 'comparison.json').read_text('utf-8'))
    folder = page.with_suffix('')
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob('frame_*.jpg'), folder / 'plot.png'):
        old.unlink(missing_ok=True)
    pictures = sorted(out.glob('frame_*.jpg'))
    for path in (out / 'plot.png', *pictures):
        shutil.copy2(path, folder / path.name)
    names = [one['method'] for one in content['runs']]
    clips = f'{DEMO_CLIPS["train"]} to train on and {DEMO_CLIPS["test"]} to test on, of '
    clips += f'{DEMO_SETTINGS.num_frames} frames, seed 0'
    text = PAGE.format(
        mark=mark,
        name=args.contest,
        title=contest.title,
        subject=contest.subject,
        note=contest.note,
        minutes=args.minutes,
        table=(out / 'table.md').read_text('utf-8').strip(),
        windows=content['windows'],
        size=content['counted_size'],
        folder=folder.name,
        pictures='\n\n'.join(f'![{path.stem}]({folder.name}/{path.name})' for path in pictures),
        clips=clips if args.data == DATA else f'here those of {args.data}',
        trained='\n'.join(map(_trained_row, names, entrants)),
        commands='\n'.join(shlex.join(command) for command in commands),
        machine=_machine(content['machine']),
    )
    page.write_text(text, 'utf-8')


def _machine(machine: dict) -> str:
    on = machine['gpu'] or f'a CPU ({machine["cpu"]}, {machine["threads"]} threads)'
    return f'{on} with torch {machine["torch"]},'


def _trained_row(name: str, entrant: Entrant) -> str:
    iterations, seconds = entrant.trained()
    seed = Config.fromfile(entrant.config).randomness.seed
    return f'| {name} | {iterations} | {seconds / 60:.1f} | {seed} |'


if __name__ == '__main__':
    run(main)
