"""What surrounds the lines of a figure: axes, margins, and the steps to come."""

from typing import Any

import plotly.graph_objects as go

from jobs.models import Job


def frame(figure: go.Figure, job: Job) -> go.Figure:
    """Gives a figure its axes from step 0 to the last one, and returns it.

    What the job has not done yet is shaded. A figure without a line says why.
    """
    end = max(job.total_steps, job.step, 1)
    figure.update_layout(
        template=go.layout.Template(),
        showlegend=False,
        margin={"l": 44, "r": 8, "t": 12, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        dragmode=False,
        uirevision=job.pk,
        xaxis={"range": [0, end], "fixedrange": True, "showgrid": False},
        yaxis={"fixedrange": True, "nticks": 6, "zeroline": False},
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False},
    )
    figure.update_xaxes(
        zeroline=False,
        nticks=7,
        tickformat=",",
        tickprefix="step ",
        ticklabelstandoff=6,
        showtickprefix="last",
    )
    figure.update_yaxes(fixedrange=True)
    if not any(len(trace.x) for trace in figure.data):
        return _empty(figure, job)
    if not job.is_final and job.step < end:
        _future(figure, job.step, end)
    return figure


def _empty(figure: go.Figure, job: Job) -> go.Figure:
    ended = "This job did no step" if job.is_final else "The first step appears here"
    figure.update_yaxes(range=[0, 1], showticklabels=False, showgrid=False)
    figure.add_annotation(
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        text=ended,
        name="--ink-3",
        showarrow=False,
    )
    return figure


def _future(figure: go.Figure, step: int, end: int) -> None:
    band: dict[str, Any] = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    figure.add_shape(
        type="rect", x0=step, x1=end, line={"width": 0}, name="--sunk", **band
    )
    figure.add_shape(
        type="line",
        x0=step,
        x1=step,
        line={"width": 1, "dash": "dot"},
        name="--line-control",
        **band,
    )
