"""tools/contest.py with one tiny network and a few seconds."""

import json
import sys
from pathlib import Path

import pytest
import torch

from bsst_plugin.cli import run

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests'))
from tiny_config import losses, render_tiny_dataset  # noqa: E402

CONFIG = """
_base_ = ['{repo}/configs/contest/nafnet_1m.py']
model = dict(generator=dict(generator=dict(
    mid_channels=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1])))
train_dataloader = dict(dataset=dict(num_input_frames=3))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
"""


@pytest.fixture
def contest(load_script, tmp_path, monkeypatch):
    """The command with a contest of one network, on tiny clips."""
    module = load_script('tools/contest.py')
    monkeypatch.setitem(sys.modules, 'contest', module)
    monkeypatch.chdir(REPO)
    config = tmp_path / 'tiny.py'
    config.write_text(CONFIG.format(repo=REPO))
    tiny = module.Contest([config], tmp_path / 'page.md', 'Title', 'one network')
    monkeypatch.setitem(module.CONTESTS, 'compare', tiny)
    data = render_tiny_dataset(tmp_path / 'data')
    arguments = ['compare', '--data', str(data), '--work-dir', str(tmp_path / 'work')]
    return lambda *more: module.main([*arguments, *map(str, more)])


@pytest.mark.slow
def test_trains_compares_and_goes_on_with_what_is_missing(contest, tmp_path):
    work, page = tmp_path / 'work', tmp_path / 'page.md'
    contest('--minutes', 0.05)
    (checkpoint,) = (work / 'tiny').glob('*.pth')
    first, text = losses(work / 'tiny'), page.read_text()
    assert max(first) == int(checkpoint.stem.removeprefix('iter_'))
    for words in (
        f'| NAFNet | {max(first)} | 0.1 | 0 |',
        'default_hooks.budget.minutes=0.05',
        f'{tmp_path / "tiny.py"}:{checkpoint}',
        'What this shows, and what it does not',
        '| blurry input |',
    ):
        assert words in text
    pictures = sorted(path.name for path in (tmp_path / 'page').iterdir())
    assert pictures[0].startswith('frame_0_') and pictures[1] == 'plot.png'
    assert all(f'(page/{name})' in text for name in pictures)
    # Once more: nothing is trained or measured again, and the page is the same.
    contest('--minutes', 0.05)
    assert losses(work / 'tiny') == first and page.read_text() == text
    # What is missing of a longer time is trained, no more.
    contest('--minutes', 0.1, '--page', tmp_path / 'longer.md')
    assert min(set(losses(work / 'tiny')) - set(first)) == max(first) + 1
    # And what came of it is compared anew.
    compared = json.loads((work / 'comparison' / 'comparison.json').read_text())
    assert compared['runs'][0]['checkpoint'] not in (None, str(checkpoint))


def test_pages_of_others_stay(contest, tmp_path, capsys):
    page = tmp_path / 'page.md'
    page.write_text('mine')
    for arguments, words in (
        ([], f'{page}: not a page that make compare wrote'),
        (['--minutes', '0'], '--minutes must be above 0'),
    ):
        with pytest.raises(SystemExit) as stop:
            run(lambda arguments=arguments: contest(*arguments))
        assert stop.value.code == 1 and words in capsys.readouterr().err
    assert page.read_text() == 'mine' and not (tmp_path / 'work').exists()


def test_page_names_checkpoints_as_the_work_folder_is_given(contest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path('work', 'tiny')
    folder.mkdir(parents=True)
    path = folder / 'iter_3.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), path)
    (folder / 'last_checkpoint').write_text(str(path.resolve()))  # as MMEngine does
    entrant = sys.modules['contest'].Entrant(Path('tiny.py'), folder, [])
    assert str(entrant.checkpoint) == 'work/tiny/iter_3.pth'
