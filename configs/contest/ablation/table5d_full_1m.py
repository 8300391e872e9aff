# Table 5 (d), Table 6 (BFA) and Table 7 (top 50 %): the paper's network.
_base_ = '_base_.py'
