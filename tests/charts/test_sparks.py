from jobs.charts.sparks import MAX_SPARK_POINTS, draw_spark
from jobs.history.curves import Point


def points(*values: float) -> list[Point]:
    return [Point(step, value) for step, value in enumerate(values)]


def test_a_sparkline_spans_its_box():
    assert draw_spark(points(3, 1, 2)) == "M0.0 2.0 30.0 22.0 60.0 12.0"


def test_one_point_is_no_line():
    assert draw_spark(points(3)) == ""


def test_many_points_are_thinned():
    path = draw_spark(points(*range(10 * MAX_SPARK_POINTS)))
    assert len(path.split()) == 2 * MAX_SPARK_POINTS
