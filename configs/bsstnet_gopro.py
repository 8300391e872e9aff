# The paper's method on the layers of the released network.
_base_ = [
    '_base_/default_runtime.py',
    '_base_/models/bsstnet.py',
    '_base_/datasets/gopro.py',
    '_base_/schedules/600k.py',
]
