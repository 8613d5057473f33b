"""Compat flags of all APIs: what a model says, else what is known about the vendor; the API's own class has the rest.

A vendor is recognised by the provider's id or by the *host name* of the base URL. Each API has a class of flags, whose
defaults are the API's own, and a table of vendors, each with what differs there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import attrs

from pi_ai.errors import failure
from pi_ai.serialization import camel, from_json
from pi_ai.types import JSONObject, Model
from pi_ai.urls import host_of, is_host


@attrs.frozen(kw_only=True, eq=False)
class Vendor:
    """One row: who is meant, and what differs there.

    :ivar ids: only models whose id begins with one of these. ``other_ids``: only those whose id does not.
    """

    name: str
    flags: JSONObject
    providers: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    ids: tuple[str, ...] = ("",)
    other_ids: tuple[str, ...] = ()

    def matches(self, provider: str, host: str, model_id: str) -> bool:
        """Whether a provider's model at a host is one of this vendor's."""
        return (
            (provider in self.providers or is_host(host, self.hosts))
            and model_id.startswith(self.ids)
            and not model_id.startswith(self.other_ids)
        )


def vendor_flags(model: Model, vendors: tuple[Vendor, ...]) -> Mapping[str, Any]:
    """What is known about a model's vendor. Where several rows match, the first one that names a flag wins."""
    return _known_flags(vendors, model.provider, host_of(model.base_url), model.id)


@lru_cache(maxsize=256)
def _known_flags(vendors: tuple[Vendor, ...], provider: str, host: str, model_id: str) -> Mapping[str, Any]:
    flags: JSONObject = {}
    for vendor in reversed(vendors):
        if vendor.matches(provider, host, model_id):
            flags |= vendor.flags
    return flags


def told_flags(flags: type[Any], model: Model) -> JSONObject:
    """The flags that ``Model.compat`` sets, in either spelling, by attribute.

    A flag that is None counts as not set; flags nobody knows are ignored.

    :param flags: the API's class of flags.
    :raises PiAIError: kind ``config``: a flag has a value that it cannot have.
    """
    keys = _keys(flags)
    given = {keys[key]: value for key, value in (model.compat or {}).items() if key in keys and value is not None}
    if not given:
        return {}
    try:
        read = from_json(flags, given)
    except ValueError as error:
        text = f"compat of model {model.provider}/{model.id} cannot be used: {error}"
        raise failure("config", text, provider=model.provider, api=model.api, model=model.id) from None
    return {field.name: getattr(read, field.name) for field in attrs.fields(flags) if camel(field.name) in given}


@cache
def _keys(flags: type[Any]) -> Mapping[str, str]:
    """Both spellings of each flag: JSON's."""
    return {name: camel(field.name) for field in attrs.fields(flags) for name in (field.name, camel(field.name))}
