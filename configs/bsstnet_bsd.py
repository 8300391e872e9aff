# bsstnet_gopro.py on BSD, whose blur is real; the paper has no such experiment.
_base_ = [
    '_base_/default_runtime.py',
    '_base_/models/bsstnet.py',
    '_base_/datasets/bsd.py',
    '_base_/schedules/600k.py',
]
