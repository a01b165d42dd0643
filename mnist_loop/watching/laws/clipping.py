"""Gradient clipping: what is clipped, and when."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mnist_loop.watching.laws.registry import Evidence, law, must
from mnist_loop.watching.log import Clip, SeenBackward, SeenStep, WatchLog

AGAIN = 2
NO_CLIP = "nothing was clipped while it was watched closely"


def _clips(log: WatchLog) -> list[Clip]:
    clips = [clip for clip in log.of(Clip) if math.isfinite(clip.bound)]
    must(clips, NO_CLIP)
    return clips


def _useless(log: WatchLog) -> list[Clip]:
    """Return the clips if none of them ever found a gradient that was to be applied."""
    clips = [clip for clip in _clips(log) if not clip.used_up and clip.given]
    steps = [step for step in log.of(SeenStep) if not step.closure]
    if len(clips) < AGAIN or any(clip.fresh for clip in clips) or len(steps) < AGAIN:
        return []
    # Between two of them there is a step on gradients that came after the clip, or before it.
    return clips if all(any(s.arrived for s in steps if s.optimizer in clip.holders) for clip in clips) else []


@law("clip-after-step")
def clipping_comes_before_the_step(log: WatchLog) -> Iterator[Evidence]:
    clips = _useless(log)
    if clips and all(clip.applied for clip in clips):
        yield Evidence(
            clips[0].time,
            f"after step {clips[0].step - 1}: {clips[0].applied} gradients are clipped that this step has applied, and "
            "no step is taken on them after",
            clips[0].site,
        )


@law("clip-before-backward")
def clipping_comes_after_the_backward(log: WatchLog) -> Iterator[Evidence]:
    clips = _useless(log)
    if clips and not any(clip.applied for clip in clips) and log.of(SeenBackward):
        yield Evidence(
            clips[0].time,
            f"step {clips[0].step}: {clips[0].given} parameters are clipped before a backward pass has brought their "
            "gradients",
            clips[0].site,
        )


@law("clip-before-unscale")
def clipping_is_done_on_unscaled_gradients(log: WatchLog) -> Iterator[Evidence]:
    must(log.scaler_steps, "there is no GradScaler at work")
    for clip in _clips(log):
        following = next((s for s in log.of(SeenStep) if s.time > clip.time and s.optimizer in clip.holders), None)
        if clip.scaled and following is not None and following.in_scaler:
            yield Evidence(
                clip.time,
                f"step {clip.step}: {clip.scaled} gradients are clipped while they are scaled up by the GradScaler",
                clip.site,
            )


@law("clip-of-nothing")
def there_is_something_to_clip(log: WatchLog) -> Iterator[Evidence]:
    clips = [clip for clip in log.of(Clip) if math.isfinite(clip.bound) or clip.used_up]
    must(clips, NO_CLIP)
    for clip in clips:
        if clip.used_up:
            yield Evidence(
                clip.time,
                f"step {clip.step}: the parameters to clip are an iterator that has nothing left, so that nothing is "
                "clipped",
                clip.site,
            )
