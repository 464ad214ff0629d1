"""The record of a channel rescaling: which channels of a network were divided by which factors."""

from __future__ import annotations

from pydantic import Field

from lionheart.record import Record


class RescaledChannels(Record):
    """Channels between a layer and the projections that read its outputs."""

    producer: str = Field(description="layer whose outputs were divided: a norm or a projection")
    consumers: tuple[str, ...] = Field(description="projections whose weights were multiplied")
    exponents: tuple[int, ...] = Field(description="binary logarithm of the factor of each channel of the producer")
    spread_before: float = Field(description="largest input of a channel over the median of all channels, before")
    spread_after: float = Field(description="largest input of a channel over the median of all channels, after")

    @property
    def n_channels(self) -> int:
        """Number of channels with a factor other than 1."""
        return sum(each != 0 for each in self.exponents)


class ChannelRescaling(Record):
    """Result of a channel rescaling of a network."""

    strength: float = Field(description="exponent of the inputs in the factors, 0 to 1")
    folded: tuple[RescaledChannels, ...] = Field((), description="rescaled channels, in the order of the network")
    left: dict[str, str] = Field({}, description="reason why a projection was left as it was, by its name")

    def describe(self) -> str:
        """Return one line of text, for example ``"channels of 7 layers rescaled for 12 projections; 3 projections left"``."""
        names = {name for each in self.folded for name in each.consumers}
        return (
            f"channels of {len(self.folded)} layers rescaled for {len(names)} projections, strength {self.strength:g}; "
            f"{len(self.left)} projections left as they were"
        )
