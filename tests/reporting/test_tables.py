"""Tables of the page: rounded where they are shown, in full where they are downloaded."""

from replication.evaluation.statistics import Interval
from replication.reporting.tables import Row, Table, shown


def test_a_table_downloads_all_digits_and_quotes():
    rows = [Row(["a, b", Interval(0.5, 0.1, 1 / 3)]), Row(['"c"', None])]
    lines = Table("t", "T", ["what", "x"], rows).csv().splitlines()
    assert lines == ['what,x,"x, low","x, high"', '"a, b",0.5,0.1,0.3333333333333333', '"""c""",,,']
    assert [shown(v) for v in (Interval(52.93, 52.8, 53.0), 1234567, 2e-8, 0.0, None)] == [
        "52.9 [52.8, 53.0]",
        "1,234,567",
        "2.0e-08",
        "0.000",
        "–",
    ]
