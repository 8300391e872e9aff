import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import ConfigDict

import bsst_plugin.datasets.conversion as conversion_module
from bsst_plugin.datasets.check import check_frame_folders
from bsst_plugin.datasets.conversion import check, convert
from bsst_plugin.datasets.official_layouts import bsd, dvd, gopro
from bsst_plugin.errors import UserError

SIZE = (16, 24)


def picture(path, seed, size=SIZE):
    """Write a smooth picture that is different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC))


def write_video(folder, kinds, first, count, digits=6, suffix='png', seed=0):
    for place, kind in enumerate(kinds):
        for i in range(first, first + count):
            picture(folder / kind / f'{i:0{digits}d}.{suffix}', (seed, place, i))


@pytest.fixture
def gopro_tree(tmp_path):
    """GoPro as published, fewer and smaller videos: frames are numbered from anywhere."""
    root = tmp_path / 'download' / 'GOPRO_Large'
    for seed, (name, first, count) in enumerate(
        [('train/GOPR0372_07_00', 47, 4), ('train/GOPR0374_11_01', 98, 4)]
        + [('test/GOPR0384_11_00', 1, 3), ('test/GOPR0384_11_05', 4001, 2)]
    ):
        write_video(root / name, ('blur', 'blur_gamma', 'sharp'), first, count, seed=seed)
    (root / 'train' / '.DS_Store').write_bytes(b'x')
    (root / 'train/GOPR0372_07_00/blur/Thumbs.db').write_bytes(b'x')
    (root / 'README.txt').write_text('x')
    return root


@pytest.fixture
def dvd_tree(tmp_path):
    """DVD as published: JPEG, no split, and videos without sharp frames in another folder."""
    root = tmp_path / 'download' / 'DeepVideoDeblurring_Dataset'
    for seed, (name, first) in enumerate(
        [('IMG_0001', 0), ('IMG_0030', 0), ('720p_240fps_2', 0), ('720p_240fps_1', 30)]
    ):
        folder = root / 'quantitative_datasets' / name
        write_video(folder, ('input', 'GT'), first, 3, digits=5, suffix='jpg', seed=seed)
    write_video(root / 'qualitative_datasets/bicycle', ('input',), 0, 2, digits=5, suffix='jpg')
    return root


@pytest.fixture
def bsd_tree(tmp_path):
    """BSD as published, with its raw frames beside the RGB ones."""
    root = tmp_path / 'download' / 'BSD'
    for seed, part in enumerate(('1ms8ms', '2ms16ms', '3ms24ms')):
        for split, name in (('train', '001'), ('valid', '009'), ('test', '022')):
            folder = root / f'BSD_{part}' / split / name
            write_video(folder, ('Blur/RGB', 'Sharp/RGB'), 0, 2, digits=8, seed=seed)
            (folder / 'Blur/RAW').mkdir()
            (folder / 'Blur/RAW/00000000.tiff').write_bytes(b'raw')
    return root


def zipped(folder, path, below=True):
    """An archive of a folder, with or without the folder itself in it."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob('*')):
            archive.write(file, file.relative_to(folder.parent if below else folder))
    return path


def run(src, dst, layout, **arguments):
    return convert(src, dst, layout, progress=False, **arguments)


def listing(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob('*') if p.suffix in ('.png', '.jpg')}


def content(folder):
    return {name: (folder / name).read_bytes() for name in listing(folder)}


def expected_names(counts, kinds=('blur', 'GT')):
    return {
        f'{split}/{kind}/{name}/{i:05d}.png'
        for (split, name), count in counts.items()
        for kind in kinds
        for i in range(count)
    }


GOPRO_COUNTS = {
    ('train', 'GOPR0372_07_00'): 4,
    ('train', 'GOPR0374_11_01'): 4,
    ('test', 'GOPR0384_11_00'): 3,
    ('test', 'GOPR0384_11_05'): 2,
}


@pytest.fixture
def small_gopro():
    """GoPro's layout with the counts of the generated tree."""
    return replace(gopro(), known={'train': (2, 8), 'test': (2, 5)})


@pytest.mark.parametrize('source', ['blur', 'blur_gamma'])
def test_gopro_is_linked_and_renumbered(gopro_tree, tmp_path, source):
    dst = tmp_path / 'gopro'
    report = run(gopro_tree, dst, gopro(source))
    assert not report.problems and report.changed
    assert report.counts == {'train': (2, 8), 'test': (2, 5)}
    assert listing(dst) == expected_names(GOPRO_COUNTS)
    link = dst / 'test/blur/GOPR0384_11_05/00001.png'
    assert Path(os.readlink(link)) == gopro_tree / f'test/GOPR0384_11_05/{source}/004002.png'
    link = dst / 'train/GT/GOPR0372_07_00/00000.png'
    assert Path(os.readlink(link)) == gopro_tree / 'train/GOPR0372_07_00/sharp/000047.png'
    for split, longest in (('train', 4), ('test', 2)):
        prefix = dict(img=f'{split}/blur', gt=f'{split}/GT')
        dataset = dict(data_root=str(dst), data_prefix=prefix, num_input_frames=longest)
        check_frame_folders(ConfigDict(dataset))


def test_counts_that_fit_give_no_warning(gopro_tree, tmp_path, small_gopro):
    assert not run(gopro_tree, tmp_path / 'gopro', small_gopro).warnings
    assert not check(tmp_path / 'gopro', small_gopro, progress=False).warnings
    warnings = run(gopro_tree, tmp_path / 'official', gopro()).warnings
    assert [line.split(': ')[-1] for line in warnings] == [
        'train has 2 of 22 videos and 8 of 2103 pairs',
        'test has 2 of 11 videos and 5 of 1111 pairs',
    ]


@pytest.mark.parametrize('where', ['..', '.', 'train', 'test', 'train/GOPR0372_07_00'])
def test_folders_above_and_below(gopro_tree, tmp_path, where):
    dst = tmp_path / 'gopro'
    report = run(gopro_tree / where, dst, gopro())
    assert not report.problems
    part = '' if where in ('..', '.') else where.replace('/', '/blur/')
    counts = {k: n for k, n in GOPRO_COUNTS.items() if f'{k[0]}/blur/{k[1]}'.startswith(part)}
    assert listing(dst) == expected_names(counts)


@pytest.mark.parametrize('below', [True, False])
def test_archive(gopro_tree, tmp_path, below):
    archive = zipped(gopro_tree, tmp_path / 'GOPRO_Large.zip', below)
    report = run(archive, tmp_path / 'unpacked', gopro())
    assert not report.problems
    shutil.rmtree(gopro_tree)
    archive.rename(tmp_path / 'elsewhere.zip')
    assert listing(tmp_path / 'unpacked') == expected_names(GOPRO_COUNTS)
    assert not any(path.is_symlink() for path in (tmp_path / 'unpacked').rglob('*'))
    assert not check(tmp_path / 'unpacked', gopro(), progress=False).problems


@pytest.mark.parametrize('archived', [False, True])
def test_copy_of_png_keeps_the_bytes(gopro_tree, tmp_path, archived):
    src = zipped(gopro_tree, tmp_path / 'a.zip') if archived else gopro_tree
    run(src, tmp_path / 'copy', gopro(), copy=True)
    copied = tmp_path / 'copy/test/blur/GOPR0384_11_00/00002.png'
    assert not copied.is_symlink()
    assert copied.read_bytes() == (gopro_tree / 'test/GOPR0384_11_00/blur/000003.png').read_bytes()


DVD_COUNTS = {
    ('train', 'IMG_0001'): 3,
    ('train', '720p_240fps_1'): 3,
    ('test', 'IMG_0030'): 3,
    ('test', '720p_240fps_2'): 3,
}


@pytest.mark.parametrize('archived', [False, True])
@pytest.mark.parametrize('copy', [False, True])
def test_dvd_is_split_and_keeps_its_pixels(dvd_tree, tmp_path, archived, copy):
    src = zipped(dvd_tree, tmp_path / 'DVD.zip') if archived else dvd_tree
    dst = tmp_path / 'dvd'
    report = run(src, dst, dvd(), copy=copy)
    assert not report.problems
    assert listing(dst) == expected_names(DVD_COUNTS)
    original = dvd_tree / 'quantitative_datasets/720p_240fps_1/input/00031.jpg'
    converted = dst / 'train/blur/720p_240fps_1/00001.png'
    assert converted.is_symlink() == (not copy and not archived)
    assert (converted.read_bytes()[1:4] == b'PNG') == copy
    assert np.array_equal(cv2.imread(str(converted)), cv2.imread(str(original)))


def test_split_of_dvd():
    """The test videos that the authors named; 61 others are to train on."""
    layout = dvd()
    numbers = (3, 21, 30, 31, 32, 33, 37, 39, 49)
    assert layout.test_videos == {'720p_240fps_2', *(f'IMG_{number:04d}' for number in numbers)}
    assert len(layout.test_videos) == layout.known['test'][0] == 10
    assert sum(pairs for _, pairs in layout.known.values()) == 6708
    below = ('DeepVideoDeblurring_Dataset', 'quantitative_datasets')
    assert layout.locate((*below, 'IMG_0049', 'GT', '00000.jpg')) == ('test', 'IMG_0049', 'GT')
    assert layout.locate((*below, 'IMG_0150', 'input', '0.jpg')) == ('train', 'IMG_0150', 'blur')


@pytest.mark.parametrize('where', ['..', '.', 'BSD_2ms16ms', 'archive'])
def test_bsd_takes_one_part(bsd_tree, tmp_path, where):
    part = '2ms16ms'
    if where == 'archive':
        src = zipped(bsd_tree / f'BSD_{part}', tmp_path / f'BSD_{part}.zip', below=False)
    else:
        src = bsd_tree / where
    dst = tmp_path / 'bsd'
    report = run(src, dst, bsd(part))
    assert not report.problems
    counts = {('train', '001'): 2, ('valid', '009'): 2, ('test', '022'): 2}
    assert listing(dst) == expected_names(counts)
    original = bsd_tree / f'BSD_{part}/test/022/Sharp/RGB/00000001.png'
    assert (dst / 'test/GT/022/00001.png').read_bytes() == original.read_bytes()
    with pytest.raises(UserError, match='made with variant 2ms16ms, not 1ms8ms'):
        run(bsd_tree, dst, bsd('1ms8ms'))
    with pytest.raises(UserError, match='no frames of BSD .1ms8ms. found.*named after 1ms8ms'):
        run(bsd_tree / 'BSD_3ms24ms', tmp_path / 'other', bsd('1ms8ms'))


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_repacked_layout(gopro_tree, tmp_path, suffix):
    """What the authors of BSSTNet hand out: SPLIT/{blur,GT}/VIDEO/00000.png, .jpg for DVD."""
    repacked = tmp_path / 'datasets' / 'repacked'
    for kind, seed in (('blur', 1), ('GT', 2)):
        folder = repacked / 'test' / kind
        write_video(folder, ('GOPR0384_11_00',), 0, 3, digits=5, suffix=suffix, seed=seed)
    layout = gopro() if suffix == 'png' else dvd()
    report = run(repacked, tmp_path / 'dst', layout)
    assert not report.problems
    assert listing(tmp_path / 'dst') == expected_names({('test', 'GOPR0384_11_00'): 3})
    # It says "blur", but not which of GoPro's two that is.
    with pytest.raises(UserError, match=r'no frames of GoPro \(blur_gamma\) found'):
        run(repacked, tmp_path / 'gamma', gopro('blur_gamma'))


def test_second_run_does_nothing(gopro_tree, tmp_path):
    dst = tmp_path / 'gopro'
    run(gopro_tree, dst, gopro())
    before = {p: p.lstat().st_mtime_ns for p in dst.rglob('*')}
    report = run(gopro_tree, dst, gopro())
    assert not report.changed and not report.problems
    assert {p: p.lstat().st_mtime_ns for p in dst.rglob('*') if '.partial' not in p.parts} == before


def test_parts_come_one_after_the_other(gopro_tree, tmp_path):
    dst = tmp_path / 'gopro'
    run(gopro_tree / 'train', dst, gopro())
    run(zipped(gopro_tree / 'test', tmp_path / 'test.zip'), dst, gopro())
    assert listing(dst) == expected_names(GOPRO_COUNTS)


def test_goes_on_after_an_interruption(gopro_tree, tmp_path, monkeypatch):
    dst = tmp_path / 'gopro'
    original, calls = conversion_module._link, []

    def link(*paths):
        calls.append(paths)
        if len(calls) == 11:
            raise KeyboardInterrupt
        original(*paths)

    monkeypatch.setattr(conversion_module, '_link', link)
    with pytest.raises(KeyboardInterrupt):
        run(gopro_tree, dst, gopro())
    # What is there is whole: never a part of a video, and not all of them.
    folders = [folder for folder in dst.glob('*/*/*') if folder.is_dir()]
    whole = {key: n for key, n in GOPRO_COUNTS.items() if any(f.name == key[1] for f in folders)}
    assert listing(dst) == expected_names(whole) and whole != GOPRO_COUNTS
    assert not (dst / '.partial').exists()
    run(gopro_tree, dst, gopro())
    assert listing(dst) == expected_names(GOPRO_COUNTS)


def test_killed_between_the_two_folders_of_a_video(gopro_tree, tmp_path):
    dst = tmp_path / 'gopro'
    run(gopro_tree, dst, gopro())
    shutil.rmtree(dst / 'train/GT/GOPR0374_11_01')
    (dst / '.partial/train/GT/GOPR0374_11_01').mkdir(parents=True)
    (dst / '.partial/train/GT/GOPR0374_11_01/00000.png').write_bytes(b'half')
    report = run(gopro_tree, dst, gopro())
    assert report.changed and not report.problems
    assert listing(dst) == expected_names(GOPRO_COUNTS)
    assert not (dst / '.partial').exists()


def break_frame(path, how):
    if how == 'missing':
        path.unlink()
    elif how == 'size':
        picture(path, 0, (8, 8))
    else:
        data = path.read_bytes()
        middle = len(data) // 2
        path.write_bytes(
            {
                'empty': b'',
                'text': b'not an image',
                'cut': data[:middle],
                'cut at the end': data[:-1],
                'damaged': data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :],
            }[how]
        )


REASONS = {
    'missing': 'has no',
    'size': '8 x 8 pixels, but the video starts with 24 x 16',
    'empty': 'not a readable image',
    'text': 'not a readable image',
    'cut': 'not a readable image',
    'cut at the end': 'not a readable image',
    'damaged': 'not a readable image',
}


@pytest.mark.parametrize('archived', [False, True])
@pytest.mark.parametrize('kind', ['blur', 'sharp'])
@pytest.mark.parametrize('how', REASONS)
def test_bad_frame_is_named_and_its_video_left_out(gopro_tree, tmp_path, how, kind, archived):
    dst = tmp_path / 'gopro'
    bad = gopro_tree / f'train/GOPR0372_07_00/{kind}/000049.png'
    good = bad.read_bytes()
    break_frame(bad, how)
    src = zipped(gopro_tree, tmp_path / 'GOPRO_Large.zip') if archived else gopro_tree
    report = run(src, dst, gopro())
    (line,) = report.problems
    named = bad
    if how == 'missing':  # what is named is the frame that is left
        named = bad.parents[1] / ('sharp' if kind == 'blur' else 'blur') / bad.name
    if archived:
        named = src / named.relative_to(gopro_tree.parent)
    assert line.startswith(f'{named}: {REASONS[how]}')
    others = {k: n for k, n in GOPRO_COUNTS.items() if k[1] != 'GOPR0372_07_00'}
    assert listing(dst) == expected_names(others)
    assert not (dst / '.partial').exists()
    # Mended, the same call adds what was missing.
    bad.write_bytes(good)
    src = zipped(gopro_tree, tmp_path / 'GOPRO_Large.zip') if archived else gopro_tree
    assert not run(src, dst, gopro()).problems
    assert listing(dst) == expected_names(GOPRO_COUNTS)


def test_all_bad_frames_are_named(gopro_tree, tmp_path):
    bad = [
        gopro_tree / 'train/GOPR0372_07_00/blur/000047.png',
        gopro_tree / 'train/GOPR0372_07_00/sharp/000050.png',
        gopro_tree / 'test/GOPR0384_11_05/sharp/004002.png',
    ]
    for path in bad:
        path.write_bytes(b'')
    problems = run(gopro_tree, tmp_path / 'gopro', gopro()).problems
    assert [line.split(': ')[0] for line in problems] == [str(path) for path in bad]


def test_video_without_sharp_frames_is_one_line(gopro_tree, tmp_path):
    shutil.rmtree(gopro_tree / 'train/GOPR0372_07_00/sharp')
    (line,) = run(gopro_tree, tmp_path / 'gopro', gopro()).problems
    assert line == (
        f'{gopro_tree}/train/GOPR0372_07_00/blur: the video GOPR0372_07_00 has no sharp frames'
    )


def test_gap_in_the_numbers_is_a_warning(gopro_tree, tmp_path, small_gopro):
    for kind in ('blur', 'blur_gamma', 'sharp'):
        (gopro_tree / f'train/GOPR0374_11_01/{kind}/000099.png').unlink()
    report = run(gopro_tree, tmp_path / 'gopro', small_gopro)
    assert not report.problems
    assert 'GOPR0374_11_01: no frames between 000098 and 000100' in report.warnings[0]
    assert 'train has 2 of 2 videos and 7 of 8 pairs' in report.warnings[1]


def test_numbers_without_zeros_keep_their_order(tmp_path):
    folder = tmp_path / 'src/train/video'
    write_video(folder, ('blur', 'sharp'), 8, 4, digits=1)
    run(tmp_path / 'src', tmp_path / 'dst', gopro())
    names = [os.readlink(tmp_path / f'dst/train/GT/video/{i:05d}.png') for i in range(4)]
    assert [Path(name).stem for name in names] == ['8', '9', '10', '11']


def test_existing_trees_are_not_overwritten(gopro_tree, tmp_path):
    dst = tmp_path / 'gopro'
    run(gopro_tree, dst, gopro())
    with pytest.raises(UserError, match='made with variant blur, not blur_gamma'):
        run(gopro_tree, dst, gopro('blur_gamma'))
    with pytest.raises(UserError, match='made with copy False, not True'):
        run(gopro_tree, dst, gopro(), copy=True)
    link = dst / 'train/blur/GOPR0372_07_00/00001.png'
    link.unlink()
    link.symlink_to(gopro_tree / 'train/GOPR0372_07_00/blur_gamma/000048.png')
    with pytest.raises(UserError, match=f'{link.parent}: holds other frames than SRC'):
        run(gopro_tree, dst, gopro())
    mine = tmp_path / 'mine'
    mine.mkdir()
    (mine / 'thesis.txt').write_text('mine')
    with pytest.raises(UserError, match=f'{mine}: exists and was not made by this tool'):
        run(gopro_tree, mine, gopro())
    assert [path.name for path in mine.iterdir()] == ['thesis.txt']


def test_blur_gamma_is_not_taken_for_blur(gopro_tree, tmp_path):
    run(gopro_tree, tmp_path / 'gamma', gopro('blur_gamma'))
    with pytest.raises(UserError, match=r'holds GoPro \(blur_gamma\), not GoPro \(blur\)'):
        run(tmp_path / 'gamma', tmp_path / 'copy', gopro(), copy=True)


def test_dst_inside_src(gopro_tree):
    dst = gopro_tree / 'converted'
    run(gopro_tree, dst, gopro())
    assert not run(gopro_tree, dst, gopro()).changed
    assert listing(dst) == expected_names(GOPRO_COUNTS)


def test_nothing_to_convert(gopro_tree, tmp_path):
    dst, empty = tmp_path / 'dst', tmp_path / 'empty'
    empty.mkdir()
    with pytest.raises(UserError, match=f'{empty}: no frames of GoPro .blur. found; expected'):
        run(empty, dst, gopro())
    with pytest.raises(UserError, match='no such folder or archive'):
        run(tmp_path / 'none', dst, gopro())
    broken = tmp_path / 'half.zip'
    whole = zipped(gopro_tree, tmp_path / 'whole.zip').read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f'{broken}: cannot be opened as a .zip archive'):
        run(broken, dst, gopro())
    (tmp_path / 'a.tar').write_bytes(b'x')
    with pytest.raises(UserError, match='unpack it and name the folder'):
        run(tmp_path / 'a.tar', dst, gopro())
    shutil.copytree(gopro_tree, gopro_tree.with_name('again'))
    with pytest.raises(UserError, match='the same frame as .*name a folder that holds one'):
        run(gopro_tree.parent, dst, gopro())
    assert not dst.exists()


def test_archive_with_evil_names(gopro_tree, tmp_path):
    archive = zipped(gopro_tree, tmp_path / 'GOPRO_Large.zip')
    frame = (gopro_tree / 'train/GOPR0372_07_00/blur/000047.png').read_bytes()
    with zipfile.ZipFile(archive, 'a') as file:
        file.writestr('train/../blur/000001.png', frame)
        file.writestr('__MACOSX/GOPRO_Large/train/GOPR0372_07_00/blur/000047.png', b'junk')
        file.writestr('GOPRO_Large/train/GOPR0372_07_00/blur/._000047.png', b'junk')
    assert not run(archive, tmp_path / 'dst', gopro()).problems
    assert listing(tmp_path / 'dst') == expected_names(GOPRO_COUNTS)


def test_archive_with_a_damaged_frame(gopro_tree, tmp_path):
    archive = zipped(gopro_tree, tmp_path / 'GOPRO_Large.zip')
    frame = (gopro_tree / 'train/GOPR0372_07_00/sharp/000048.png').read_bytes()
    with zipfile.ZipFile(archive, 'w') as file:  # stored, so that the damage is the frame's
        for kind in ('blur', 'sharp'):
            file.writestr(f'train/GOPR0372_07_00/{kind}/000048.png', frame)
    data = archive.read_bytes()
    archive.write_bytes(data[::-1].replace(frame[::-1], bytes(len(frame)), 1)[::-1])
    (line,) = run(archive, tmp_path / 'dst', gopro()).problems
    named = f'{archive}/train/GOPR0372_07_00/sharp/000048.png'
    assert line.startswith(f'{named}: cannot be unpacked (Bad CRC-32')


def test_full_disk_is_one_line(gopro_tree, tmp_path, monkeypatch):
    def write_bytes(self, data):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', write_bytes)
    with pytest.raises(UserError, match=f'{tmp_path / "dst"}: No space left on device'):
        run(gopro_tree, tmp_path / 'dst', gopro(), copy=True)
    assert not listing(tmp_path / 'dst') and not (tmp_path / 'dst/.partial').exists()


def test_where_links_cannot_be_made(gopro_tree, tmp_path, monkeypatch):
    def symlink_to(self, target):
        raise OSError(1, 'Operation not permitted')

    monkeypatch.setattr(Path, 'symlink_to', symlink_to)
    with pytest.raises(UserError, match='--copy goes without links'):
        run(gopro_tree, tmp_path / 'dst', gopro())


@pytest.fixture
def converted(gopro_tree, tmp_path):
    dst = tmp_path / 'gopro'
    run(gopro_tree, dst, gopro(), copy=True)
    return dst


def problems(dst, layout=None):
    return check(dst, layout or gopro(), progress=False).problems


def test_check_passes_what_was_converted(converted):
    before = content(converted)
    assert not problems(converted)
    (converted / 'dataset.json').unlink()  # made by somebody else
    assert not problems(converted)
    assert content(converted) == before


@pytest.mark.parametrize('kind', ['blur', 'GT'])
@pytest.mark.parametrize('how', REASONS)
def test_check_names_bad_frames(converted, how, kind):
    bad = converted / f'test/{kind}/GOPR0384_11_00/00002.png'
    break_frame(bad, how)
    (line,) = problems(converted)
    other = 'GT' if kind == 'blur' else 'blur'
    named = converted / f'test/{other}/GOPR0384_11_00/00002.png' if how == 'missing' else bad
    assert line.startswith(f'{named}: {REASONS[how]}')


def test_check_counts_what_has_a_partner(converted):
    shutil.rmtree(converted / 'train/GT/GOPR0374_11_01')
    (converted / 'test/blur/GOPR0384_11_00/00001.png').unlink()
    report = check(converted, gopro(), progress=False)
    assert report.counts == {'train': (1, 4), 'test': (2, 4)}


@pytest.mark.parametrize('source', ['blur', 'blur_gamma'])
def test_report_says_which_version_it_is(gopro_tree, tmp_path, source):
    dst = tmp_path / 'dst'
    assert run(gopro_tree, dst, gopro(source)).title == f'GoPro ({source})'
    assert check(dst, gopro(), progress=False).title == f'GoPro ({source})'
    (dst / 'dataset.json').unlink()
    assert check(dst, gopro(), progress=False).title == 'GoPro'


def test_check_names_links_to_nowhere(gopro_tree, tmp_path):
    run(gopro_tree, tmp_path / 'dst', gopro())
    gone = gopro_tree / 'test/GOPR0384_11_00/sharp/000002.png'
    gone.unlink()
    (line,) = problems(tmp_path / 'dst')
    link = tmp_path / 'dst/test/GT/GOPR0384_11_00/00001.png'
    assert line == f'{link}: links to {gone}, which is gone'


def test_check_names_wrong_numbers(converted):
    for kind in ('blur', 'GT'):
        folder = converted / 'train' / kind / 'GOPR0372_07_00'
        (folder / '00001.png').rename(folder / '00009.png')
    lines = problems(converted)
    assert len(lines) == 2
    assert all('00002.png: 00001.png should be here' in line for line in lines)


def test_check_of_something_else(converted, tmp_path):
    with pytest.raises(UserError, match='is GoPro, not DVD'):
        check(converted, dvd(), progress=False)
    with pytest.raises(UserError, match='no frames found; expected .*train,test.*blur,GT'):
        check(converted / 'train', gopro(), progress=False)
    with pytest.raises(UserError, match='no such folder'):
        check(tmp_path / 'none', gopro(), progress=False)


def test_record_says_what_it_is(converted):
    record = json.loads((converted / 'dataset.json').read_text())
    assert record == {'dataset': 'GoPro', 'variant': 'blur', 'copy': True}
