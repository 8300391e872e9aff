# What the small rows of Tables 5 to 7 start from: the small BSSTNet of `make compare`.
_base_ = '../bsstnet_1m.py'
