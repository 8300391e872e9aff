# Copyright (c) the bsst_plugin authors. Licensed under the Apache License, Version 2.0.
"""Packaging of bsst_plugin.

As in the other OpenMMLab packages, `configs`, `tools` and `model-index.yml` go with the package, in
its folder `.mim`, where `mim` looks for them: copied into a wheel, linked by an editable install.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
PACKAGE = 'bsst_plugin'
MIM_CONTENTS = ('configs', 'tools', 'model-index.yml')

EXTRAS = {
    'flow': ['mmflow>=1.0.0rc0'],
    'tests': ['hypothesis', 'pytest', 'pytest-xdist'],
    'all': ['hypothesis', 'mmflow>=1.0.0rc0', 'openmim', 'pytest', 'pytest-xdist'],
}


def read_version() -> str:
    """Return the version without importing the package, whose dependencies may be missing."""
    scope: dict[str, str] = {}
    exec((ROOT / PACKAGE / 'version.py').read_text('utf-8'), scope)
    return scope['__version__']


def read_readme() -> str:
    """Return the text for the package index."""
    readme = ROOT / 'README.md'
    return readme.read_text('utf-8') if readme.exists() else ''


def link_mim() -> None:
    """Link `.mim` in the source tree to the files it stands for."""
    folder = ROOT / PACKAGE / '.mim'
    folder.mkdir(exist_ok=True)
    for name in MIM_CONTENTS:
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(Path('..', '..', name))


def copy_mim(package: Path) -> None:
    """Copy `.mim` into the folder `package` of a build."""
    folder = package / '.mim'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in MIM_CONTENTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy2(source, folder / name)


class BuildPy(build_py):
    """Add `.mim` to what is built."""

    def run(self) -> None:
        """Build, then link or copy `.mim`."""
        super().run()
        if self.editable_mode:
            link_mim()
        else:
            copy_mim(Path(self.build_lib, PACKAGE))


class Develop(develop):
    """Link `.mim` also where `setup.py develop` does not go through `editable_wheel`."""

    def run(self) -> None:
        """Link `.mim`, then install."""
        link_mim()
        super().run()


class EditableWheel(editable_wheel):
    """Let `mim` and mmengine find an editable install.

    Both take the package to be in the folder of its metadata, joined with the name in
    `top_level.txt`. For an editable install that folder is site-packages, where the package is not;
    an absolute path in `top_level.txt` takes the place of the whole.
    """

    def _ensure_dist_info(self) -> None:
        super()._ensure_dist_info()
        Path(self.dist_info_dir, 'top_level.txt').write_text(f'{ROOT / PACKAGE}\n', 'utf-8')


setup(
    name=PACKAGE,
    version=read_version(),
    description='BSSTNet video deblurring for MMagic',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=['computer vision', 'video deblurring', 'OpenMMLab'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Processing',
    ],
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['visualization/report.html', 'weights/*.pth']},
    entry_points={'console_scripts': ['bsst-deblur=bsst_plugin.commands.deblur_video:main']},
    python_requires='>=3.10',
    # mmcv is missing on purpose: the index has it as source that does not compile as it is, see
    # tools/install_mmcv.py. mmengine imports pkg_resources, which setuptools 81 dropped. What else
    # has an upper bound is for MMagic 1.2.0, which has none and does not work with newer releases.
    install_requires=[
        'albumentations<=1.4.24',
        'av>=18',
        'diffusers<=0.24.0',
        'einops',
        'huggingface-hub<=0.25.2',
        'mediapipe<=0.10.14',
        'mmagic>=1.2.0',
        'mmengine>=0.10.4',
        'numpy<2',
        'opencv-python',
        'rich',
        'scikit-image',
        'scipy',
        'setuptools<81',
        'tensorboard',
        'torch>=2.6',
        'torchvision',
        'transformers<=4.44.2',
    ],
    extras_require=EXTRAS,
    cmdclass={'build_py': BuildPy, 'develop': Develop, 'editable_wheel': EditableWheel},
    zip_safe=False,
)
