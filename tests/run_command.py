"""Run the commands that users type, each in a process of its own.

The processes are forks of one that has imported the package, which takes longer than all that a
test does with it.
"""

import multiprocessing
import os
import resource
import runpy
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['bsst_plugin.engine', 'torch.utils.tensorboard'])


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """A command that runs: a script of this repository and its arguments."""

    def __init__(self, script, *arguments, env=None, file_size=None):
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name, name) for name in ('stdout', 'stderr')]
        command = [str(REPO / script), *map(str, arguments)]
        self.process = _CONTEXT.Process(
            target=_run, args=(command, self._outputs, env or {}, file_size)
        )
        self.process.start()

    def wait(self):
        """Wait for its end."""
        self.process.join()
        texts = [path.read_text() if path.exists() else '' for path in self._outputs]
        return Done(self.process.exitcode, *texts)


def run_command(script, *arguments, env=None, file_size=None):
    """Run a command; ``file_size`` is the largest file in bytes that it can write."""
    return Command(script, *arguments, env=env, file_size=file_size).wait()


def _run(command, outputs, env, file_size):
    import torch

    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    os.environ.update(env)
    os.chdir(REPO)
    sys.argv = command
    torch.set_num_threads(1)
    runpy.run_path(command[0], run_name='__main__')
