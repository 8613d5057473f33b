"""What a provider is to the registry: models, and how a request to one of them finds its endpoint and key."""

from __future__ import annotations

from typing import Protocol, TypeVar

from pi_ai.types import Model, RequestOptions

OptionsT = TypeVar("OptionsT", bound=RequestOptions)


class Provider(Protocol):
    """A provider that is more than catalogue data and an environment variable."""

    def models(self) -> list[Model]:
        """Its models."""
        ...

    def get_model(self, id: str) -> Model:  # noqa: A002
        """One of them.

        :raises LookupError: there is none of that id.
        """
        ...

    async def resolve(self, model: Model, options: OptionsT) -> tuple[Model, OptionsT]:
        """Model and options with the endpoint and the key in place, at the time of a request.

        :raises PiAIError: the provider cannot be used; becomes the stream's error event.
        """
        ...
