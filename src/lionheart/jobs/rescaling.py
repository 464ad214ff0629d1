"""Channel rescaling of the network of a job, before anything is measured."""

from __future__ import annotations

from dataclasses import replace

from lionheart.analog import rescale_channels_
from lionheart.copies import copy_model
from lionheart.data import device_of, move_batch, read_first
from lionheart.jobs.settings import MapSettings
from lionheart.progress import Progress
from lionheart.rng import RandomStreams
from lionheart.runs import ChannelRescaling, Journal
from lionheart.tasks import Task

_KEY = "rescaling"


def rescale_task(
    task: Task, settings: MapSettings, journal: Journal, progress: Progress
) -> tuple[Task, ChannelRescaling | None]:
    """Return a task whose network has rescaled channels, if the settings ask for it, and what was rescaled.

    The factors follow from the first batch of the training data. They are recorded in the journal, so that a resumed job has
    the same network.

    Args:
        task: Task of the job. Its network is not changed.
        settings: Settings of the job.
        journal: Journal of the job.
        progress: Receiver of a message about the rescaled channels.

    Returns:
        The task itself and None if ``search.channel_rescaling`` is None; otherwise a copy with a rescaled network.
    """
    strength = settings.search.channel_rescaling
    if strength is None:
        return task, None
    model = copy_model(task.model)
    generator = RandomStreams(settings.seed).generator(_KEY)
    inputs = move_batch(read_first(task.train_batches, generator, "Task.train")[0], device_of(model))
    if journal.has(_KEY):
        stored = journal.read(_KEY, ChannelRescaling)
        rescale_channels_(model, inputs, strength, stored=stored)
        return replace(task, model=model), stored
    found = journal.once(_KEY, ChannelRescaling, lambda: rescale_channels_(model, inputs, strength))
    progress.note(found.describe())
    return replace(task, model=model), found
