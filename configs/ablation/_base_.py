# What the ablations of the paper start from: DVD, the paper's method.
_base_ = '../bsstnet_dvd.py'
