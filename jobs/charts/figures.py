"""The charts of the live page as plotly figures, without colours.

Colours stay in the stylesheet. `meta.ink` of a trace and the `name` of a shape or an
annotation are names of its variables, and the script puts the colours in when it draws.
"""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from jobs.charts.frame import frame
from jobs.history.curves import Curves, Point, best_point
from jobs.models import Job

SERIES = ("loss", "lr", "speed")
# So many significant digits are more than a screen can show.
DIGITS = 5
# Below this share of difference the two train losses are one line.
SAME = 0.005


def build_figure(job: Job, curves: Curves, series: str) -> go.Figure:
    """Returns the figure of a series in SERIES."""
    if series == "lr":
        figure = _single(curves.points["lr"], "Learning rate", "learning rate %{y:.2g}")
    elif series == "speed":
        figure = _single(
            curves.points["tokens_per_second"], "Speed", "%{y:,.0f} tokens/s"
        )
        figure.update_yaxes(rangemode="tozero", tickformat=",")
    else:
        figure = _loss_figure(job, curves)
    return frame(figure, job)


def describe(curves: Curves, series: str) -> str:
    """Returns the chart of a series in SERIES in a sentence, for who doesn't see it."""
    if series == "lr":
        return _first_and_last(curves.points["lr"], "Learning rate", ".2g")
    if series == "speed":
        return _first_and_last(
            curves.points["tokens_per_second"], "Speed in tokens per second", ",.0f"
        )
    return _describe_losses(curves)


def _first_and_last(points: Sequence[Point], name: str, form: str) -> str:
    if not points:
        return f"{name} by step. No step is done yet."
    first, last = points[0], points[-1]
    return (
        f"{name} was {first.value:{form}} at step {first.step} "
        f"and is {last.value:{form}} at step {last.step}."
    )


def _describe_losses(curves: Curves) -> str:
    train = curves.points["loss"]
    if not train:
        return "Loss by step. No step is done yet."
    first, last = train[0], train[-1]
    text = (
        f"Train loss was {first.value:.2f} at step {first.step} "
        f"and is {last.value:.2f} at step {last.step}."
    )
    if not curves.validation:
        return text
    best = best_point(curves.validation)
    now = curves.validation[-1]
    return (
        f"{text} Validation loss was lowest, {best.value:.2f}, at step {best.step}; "
        f"the latest is {now.value:.2f} at step {now.step}."
    )


def _loss_figure(job: Job, curves: Curves) -> go.Figure:
    figure = go.Figure()
    train, learned = curves.points["loss"], curves.points["learned_loss"]
    figure.add_trace(_line(train, "raw", "--accent", width=1, opacity=0.28, raw=True))
    figure.add_trace(_line(train, "Train loss", "--accent", smooth=True))
    if _differ(train, learned):
        figure.add_trace(
            _line(learned, "Learned loss", "--ink-3", dash="1px,3px", smooth=True)
        )
    if curves.validation:
        figure.add_trace(
            _line(curves.validation, "Validation loss", "--clay", dash="6px,3px")
        )
        _mark_best(figure, best_point(curves.validation), curves.validation[-1])
    figure.add_trace(_diamonds(curves.snapshot_steps))
    figure.update_yaxes(tickformat=_tick_format(train))
    if train:
        _name_ends(figure, job, train[-1], curves.validation)
    return figure


def _single(points: list[Point], name: str, hover: str) -> go.Figure:
    trace = _line(points, name, "--accent")
    trace.hovertemplate = f"Step %{{x}}: {hover}<extra></extra>"
    return go.Figure(trace)


def _line(
    points: list[Point],
    name: str,
    ink: str,
    *,
    width: float = 2,
    dash: str = "solid",
    opacity: float = 1,
    raw: bool = False,
    smooth: bool = False,
) -> go.Scatter:
    return go.Scatter(
        x=[point.step for point in points],
        y=[_short(point.value) for point in points],
        name=name,
        mode="lines",
        line={"width": width, "dash": dash},
        opacity=opacity,
        meta={"ink": ink, "smooth": smooth},
        hoverinfo="skip" if raw else None,
        hovertemplate=None
        if raw
        else f"Step %{{x}}: {name.lower()} %{{y:.2f}}<extra></extra>",
    )


def _diamonds(steps: list[int]) -> go.Scatter:
    """Returns snapshots as diamonds on the step axis.

    A second y axis keeps them there on any scale.
    """
    return go.Scatter(
        x=steps,
        y=[0] * len(steps),
        yaxis="y2",
        name="Snapshot",
        mode="markers",
        cliponaxis=False,
        marker={"symbol": "diamond", "size": 10, "line": {"width": 1.5}},
        meta={"ink": "--ink-3", "fill": "--surface"},
        hovertemplate="Snapshot of step %{x}<extra></extra>",
    )


def _mark_best(figure: go.Figure, best: Point, last: Point) -> None:
    figure.add_trace(
        go.Scatter(
            x=[best.step],
            y=[_short(best.value)],
            name="Best",
            mode="markers",
            marker={"size": 10, "line": {"width": 2}},
            meta={"ink": "--surface", "fill": "--clay"},
            hoverinfo="skip",
        )
    )
    if best.step == last.step:
        # The value stands at the end of the line already.
        return
    figure.add_annotation(
        x=best.step,
        y=_short(best.value),
        text=f"best {best.value:.2f}",
        name="--clay",
        showarrow=False,
        yshift=15,
    )


def _name_ends(
    figure: go.Figure, job: Job, train: Point, validation: list[Point]
) -> None:
    """Writes values beside the ends of lines, or to their left at the chart's end."""
    late = train.step > 0.8 * job.total_steps
    ends = [(train.value, f"Train {train.value:.2f}", "--accent")]
    if validation:
        value = validation[-1].value
        ends.append((value, f"Validation {value:.2f}", "--clay"))
    ends.sort()
    for order, (value, text, ink) in enumerate(ends):
        # This keeps them apart even where both lines end at one height.
        lift = 14 if order == len(ends) - 1 else -14
        figure.add_annotation(
            x=train.step,
            y=_short(value),
            text=text,
            name=ink,
            showarrow=False,
            xanchor="right" if late else "left",
            xshift=0 if late else 8,
            yshift=lift if late or _close(ends, figure) else 0,
        )


def _close(ends: list[tuple[float, str, str]], figure: go.Figure) -> bool:
    """Returns whether two names would lie over each other."""
    values = [value for trace in figure.data for value in trace.y]
    span = max(values) - min(values)
    return abs(ends[0][0] - ends[-1][0]) < 0.08 * span


def _differ(train: list[Point], learned: list[Point]) -> bool:
    return any(
        abs(one.value - other.value) > SAME * abs(other.value)
        for one, other in zip(train, learned, strict=False)
    )


def _tick_format(points: list[Point]) -> str:
    """Returns a format with enough decimals to tell two ticks apart."""
    values = [point.value for point in points]
    return ".1f" if values and max(values) - min(values) > 0.5 else ".2~f"


def _short(value: float) -> float:
    if value == 0:
        return 0.0
    return round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
