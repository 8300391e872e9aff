import pytest

from bsst_plugin.analysis.tables import Column, rank, to_markdown

PSNR = Column('psnr', 'PSNR', '{:.2f}'.format, max)
TIME = Column('time', 'time', '{:.0f}'.format, min)


@pytest.mark.parametrize(
    'values, places',
    [
        ([30.0, 32.0, 31.0], [None, 1, 2]),
        ([30.004, 30.0, 29.0], [1, 1, None]),  # both are shown as 30.00
        ([31.0, 30.001, 30.0, 29.0], [1, 2, 2, None]),
        ([30.0, None, 29.0], [1, None, 2]),
        ([30.0], [None]),
        ([30.0, None], [None, None]),
        ([None, None], [None, None]),
    ],
)
def test_places(values, places):
    rows = [{} if value is None else {'psnr': value} for value in values]
    assert rank(rows, PSNR) == places


def test_less_is_better_where_the_column_says_so():
    rows = [{'time': 3.0}, {'time': 1.0}, {'time': 2.0}]
    assert rank(rows, TIME) == [None, 1, 2]
    assert rank(rows, Column('time', 'time')) == [None, None, None]


def test_markdown():
    rows = [{'name': 'a', 'psnr': 30.0, 'time': 5}, {'name': 'b', 'psnr': 31.0, 'time': 4}]
    rows.append({'name': 'c', 'time': 9})
    table = to_markdown(rows, [Column('name', 'method'), PSNR, TIME], head=[{'name': 'input'}])
    assert table.splitlines() == [
        '| method | PSNR | time |',
        '|---|---:|---:|',
        '| input | - | - |',
        '| a | *30.00* | *5* |',
        '| b | **31.00** | **4** |',
        '| c | - | 9 |',
    ]
