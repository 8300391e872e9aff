# bsstnet_gopro.py on DVD.
_base_ = [
    '_base_/default_runtime.py',
    '_base_/models/bsstnet.py',
    '_base_/datasets/dvd.py',
    '_base_/schedules/600k.py',
]
